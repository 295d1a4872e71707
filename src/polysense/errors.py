"""Every error polysense raises on purpose.

Each message says what is wrong, where, and what to do about it; each error keeps those three parts as attributes, so
that callers can count, log or translate them. Errors are raised before anything is changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class PolysenseError(Exception):
    """Base of all errors of this library.

    Args:
        what: what is wrong, as a clause without a final full stop.
        where: the file, sample id or key it concerns; `None` where there is only one place it can be.
        fix: what the user can do about it, as a sentence.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str = "") -> None:
        self.what, self.where, self.fix = what, None if where is None else str(where), fix
        place = f"{self.where}: " if self.where else ""
        super().__init__(f"{place}{what}." + (f" {fix}" if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip from a worker process, whatever the subclass's own signature."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[PolysenseError], args: tuple[object, ...], state: dict[str, object]) -> PolysenseError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question for the known name that was probably meant; empty where none is near (see `difflib`)."""
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff)
    return f"Did you mean {near[0]!r}?" if near else ""


class ConfigError(PolysenseError, ValueError):
    """A configuration value, key or option that cannot be used."""


class UnknownModalityError(PolysenseError, KeyError):
    """A modality name that this model, processor or data set does not have."""

    def __init__(self, name: str, known: Iterable[str], *, where: str | None = None, fix: str = "") -> None:
        self.name, self.known = name, tuple(known)
        listing = ", ".join(self.known) or "none"
        add = f"Add it with add_modality({name!r}) or use one of the known names."
        super().__init__(
            f"unknown modality {name!r} (known here: {listing})",
            where=where,
            fix=fix or nearest(name, self.known) or add,
        )

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class UnregisteredModalityError(PolysenseError, LookupError):
    """Raw data of a modality whose processing code this process has not registered (its weights still load)."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name, meant = name, nearest(name, known)
        super().__init__(
            f"modality {name!r} is not registered in this process, so its files cannot be processed",
            fix=(f"{meant} If not, call" if meant else "Call")
            + f" polysense.register_modality(Modality(name={name!r}, ...)) first, or list the module that does "
            "so under `imports:` in the recipe or after --imports on the command line.",
        )


class FeatureShapeError(PolysenseError, ValueError):
    """Features whose rank or sizes do not fit what a modality's tokenizer takes."""


class MediaError(PolysenseError, ValueError):
    """A media file or array that cannot be used as a sample: truncated, empty, mislabelled, absurd or too large."""


class SamplingRateError(MediaError):
    """Audio whose sampling rate is missing or not the processor's."""


class ManifestError(PolysenseError, ValueError):
    """A manifest or data-set row that lacks a field, points outside its folder or contradicts itself."""


class CheckpointError(PolysenseError, ValueError):
    """A checkpoint that is incomplete, damaged or made for another model."""


class UnsafeFileError(CheckpointError):
    """A file refused for safety: a pickle offered as weights, a path leading outside its folder, a hostile config."""


class FolderInUseError(PolysenseError, RuntimeError):
    """An output folder that another live process is writing to."""


class QuotaExceededError(PolysenseError, RuntimeError):
    """More unusable samples, or more non-finite steps in a row, than the run allows."""


class HubError(PolysenseError, RuntimeError):
    """A stage that could not be published as one commit and one tag."""
