"""Samples as conversations: an instruction or a question about one sense, and the answer to learn.

All senses share their prompts: what was asked must not tell which sense is meant, or a language model could keep the
conventions of every data set apart without looking (and a later sense could never overwrite an earlier one's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from polysense.data.rng import sample_rng
from polysense.data.samples import Sample
from polysense.errors import ConfigError, ManifestError

Task = Literal["caption", "question"]
Message = dict[str, Any]

INSTRUCTIONS = ("Describe it briefly.", "Give a short description.", "Say what there is.", "Write a caption.")
"""Of captions; the first one is the fixed instruction at test."""


@dataclass(frozen=True)
class Turn:
    """One thing that is asked about a sample, and what is to be answered.

    Attributes:
        task: which kind of thing.
        prompt: instruction, or question with the suffix.
        answers: what is right: the drawn answer alone in training, all of them at test.
    """

    task: Task
    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """How samples are asked about; MERA prints no prompts (method-facts 4.2 recommends these).

    Attributes:
        tasks: what is asked: captions alone (the first training step of a stage), or questions too.
        instructions: pool of instructions for captions, common to all senses.
        pools: sense to a pool of its own, in place of `instructions`.
        suffix: follows every question, so that answers are short.
        question_share: probability of a question, for samples that have captions and questions.
        turns: most turns of a conversation about one sample in training; at test, each is a conversation of its own.

    Raises:
        ConfigError: nothing to ask, an empty pool, no probability, or no turn.
    """

    tasks: Sequence[Task] = ("caption", "question")
    instructions: Sequence[str] = INSTRUCTIONS
    pools: Mapping[str, Sequence[str]] = field(default_factory=dict)
    suffix: str = "Answer briefly."
    question_share: float = 0.5
    turns: int = 1

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("nothing is asked: tasks is empty", fix="Name caption, question or both.")
        if not all([self.instructions, *self.pools.values()]):
            raise ConfigError("a pool of instructions is empty", fix="Write at least one instruction.")
        if not 0 <= self.question_share <= 1:
            raise ConfigError(f"question_share is {self.question_share}", fix="Give a probability, 0 to 1.")
        if self.turns < 1:
            raise ConfigError(f"turns is {self.turns}", fix="Give a positive number.")

    def pool(self, modality: str) -> Sequence[str]:
        """Instructions for captions of a sense."""
        return self.pools.get(modality, self.instructions)

    def draw(self, sample: Sample, modality: str, *, seed: int, epoch: int) -> tuple[Turn, ...]:
        """What a sample is asked in one epoch, no two turns alike: a function of the arguments alone.

        Raises:
            ManifestError: the sample has nothing to answer for any of the tasks, or its questions are malformed.
        """
        rng = sample_rng(seed, epoch, sample.id, f"conversation {modality}")
        captions, left = self._material(sample, modality)
        pool, turns = self.pool(modality), list[Turn]()
        while len(turns) < self.turns and (captions or left):
            if left and (not captions or rng.uniform() < self.question_share):
                question, answers = left.pop(int(rng.integers(len(left))))
                turns.append(Turn("question", self._asked(question), (answers[int(rng.integers(len(answers)))],)))
            else:
                instruction, caption = pool[int(rng.integers(len(pool)))], captions[int(rng.integers(len(captions)))]
                turns.append(Turn("caption", instruction, (caption,)))
                captions = ()
        return tuple(turns)

    def words(self, sample: Sample, epoch: int, *, modality: str, seed: int) -> int:
        """Words of what `draw` draws, to make batches of samples of about one length. Raises: see there."""
        turns = self.draw(sample, modality, seed=seed, epoch=epoch)
        return sum(len(f"{turn.prompt} {turn.answers[0]}".split()) for turn in turns)

    def test(self, sample: Sample, modality: str) -> list[Turn]:
        """Everything a sample is asked at test: the fixed instruction, then every question, with all right answers.

        Raises:
            ManifestError: see `draw`.
        """
        captions, questions = self._material(sample, modality)
        asked = [Turn("caption", self.pool(modality)[0], captions)] if captions else []
        return asked + [Turn("question", self._asked(question), answers) for question, answers in questions]

    def _material(self, sample: Sample, modality: str) -> tuple[tuple[str, ...], list[tuple[str, tuple[str, ...]]]]:
        """Captions, and questions with their answers, of the tasks that are asked."""
        captions = sample.captions.get(modality, ()) if "caption" in self.tasks else ()
        found = questions(sample, modality) if "question" in self.tasks else []
        if not captions and not found:
            raise ManifestError(f"the sample has no {' or '.join(self.tasks)} about {modality}", where=sample.id,
                                fix="Leave it out of this data set, or write one.")  # fmt: skip
        return tuple(captions), found

    def _asked(self, question: str) -> str:
        return f"{question} {self.suffix}".strip()


def questions(sample: Sample, modality: str) -> list[tuple[str, tuple[str, ...]]]:
    """(question, all its right answers) of every entry of the row's `questions` about a sense.

    Raises:
        ManifestError: `questions` is no list of objects with texts under modality, question and answer (or a list of
            texts there).
    """
    rows: Any = sample.extra.get("questions") or []
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and _is_question(row) for row in rows):
        raise ManifestError("'questions' is not a list of {modality, question, answer}", where=sample.id,
                            fix="Correct the row, or write the manifest again.")  # fmt: skip
    return [(row["question"], _answers(row)) for row in rows if row["modality"] == modality]


def _is_question(row: Mapping[str, Any]) -> bool:
    texts = [row.get("modality"), row.get("question"), *_answers(row)]
    return len(texts) > 2 and all(isinstance(text, str) for text in texts)


def _answers(row: Mapping[str, Any]) -> tuple[Any, ...]:
    answer = row.get("answer")
    return tuple(answer) if isinstance(answer, list) else (answer,)


def messages(turns: Sequence[Turn], modality: str, *, answered: bool) -> list[Message]:
    """A chat about one item of a sense, whose features come from elsewhere: the item stands before the first prompt.

    Args:
        answered: with every turn's first answer, to learn from; else it ends where an answer is to be generated.
    """
    chat: list[Message] = []
    for turn in turns:
        text = {"type": "text", "text": turn.prompt if chat else f"\n{turn.prompt}"}
        chat.append({"role": "user", "content": [text] if chat else [{"type": modality}, text]})
        if answered:
            chat.append({"role": "assistant", "content": turn.answers[0]})
    return chat
