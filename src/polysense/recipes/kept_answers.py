"""What a model answered, on disk before anyone judges it: asking takes hours, and a judge may refuse."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from polysense.data import Sample
from polysense.data.conversations import Turn
from polysense.storage import digest, write_whole
from polysense.version import __version__

logger = logging.getLogger(__name__)

Asked = Sequence[tuple[Sample, Turn]]

_KEY_LENGTH = 24


class KeptAnswers:
    """A folder with one file per data set that a model was asked about, in a folder per model.

    A file's name says all that its answers depend on, and it appears under it complete or not at all.

    Args:
        folder: made if need be; it may be deleted at any time.
        model: digest of the model that is asked.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder / model[:_KEY_LENGTH]

    def get(self, asked: Asked, modality: str, max_new_tokens: int, answer: Callable[[], list[str]]) -> list[str]:
        """The answer to every turn, given by `answer` if they are not there yet.

        Raises: what `answer` does.
        """
        key = _key(asked, modality, max_new_tokens)
        if key is None:
            return answer()
        path = self.folder / f"{key}.json"
        if (kept := _read(path, len(asked))) is None:
            kept = answer()
            _write(path, asked, kept)
        return kept


def _key(asked: Asked, modality: str, max_new_tokens: int) -> str | None:
    """Digest of what is asked about which content, and how; `None` for media that are no files."""
    refs = [sample.ref(modality) for sample, _ in asked]

    @cache
    def content(source: str | Path | bytes) -> str:
        return digest(source if isinstance(source, bytes) else Path(source).read_bytes())

    told = []
    for (sample, turn), ref in zip(asked, refs, strict=True):
        if not isinstance(ref.source, str | Path | bytes):
            return None
        try:
            told.append([sample.id, turn.prompt, dict(ref.facts), content(ref.source)])
        except OSError:
            return None  # it cannot be read: the processor says so better
    how = [__version__, modality, max_new_tokens]
    return digest(json.dumps([how, told], sort_keys=True, default=str).encode())[:_KEY_LENGTH]


def _read(path: Path, count: int) -> list[str] | None:
    try:
        answers = [str(line["prediction"]) for line in json.loads(path.read_bytes())]
        if len(answers) != count:
            raise ValueError(f"{len(answers)} answers to {count} prompts")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be used (%s), so the model is asked again", path, error)
        return None
    logger.info("%d answers are taken from %s", count, path)
    return answers


def _write(path: Path, asked: Asked, answers: Sequence[str]) -> None:
    lines = [
        {"sample": sample.id, "prompt": turn.prompt, "prediction": answer}
        for (sample, turn), answer in zip(asked, answers, strict=True)
    ]
    try:
        write_whole(path, json.dumps(lines, indent=1) + "\n")
    except OSError as error:  # what was answered can still be judged
        logger.warning("the answers cannot be kept in %s (%s)", path, error)


__all__ = ["KeptAnswers"]
