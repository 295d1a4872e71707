"""What a model that learns stage after stage keeps of each task, and what keeping costs it in learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polysense.errors import ConfigError


@dataclass(frozen=True)
class Memory:
    """What became of one task.

    Attributes:
        learned: its score after the stage that it first occurs in.
        best: its best score after any stage.
        last: its score after the last stage.
    """

    learned: float
    best: float
    last: float

    @property
    def retention(self) -> float:
        """Share of what was learned that is still there; above 1 where later stages helped.

        Raises:
            ConfigError: nothing had been learned.
        """
        if not self.learned > 0:
            raise ConfigError(f"the score was {self.learned} when the task had been learned",
                              fix="Report the score itself: nothing can be kept of nothing.")  # fmt: skip
        return self.last / self.learned

    @property
    def forgotten(self) -> float:
        """How far the task fell from its best (Chaudhry et al., ECCV 2018), in the score's own unit."""
        return self.best - self.last


def memories(stages: Sequence[Mapping[str, float]]) -> dict[str, Memory]:
    """What became of every task.

    Args:
        stages: after each stage, the scores of all tasks learned so far; a task is learned where it first occurs.

    Raises:
        ConfigError: there is no stage, or one lacks a task that was learned before.
    """
    if not stages:
        raise ConfigError("there are no stages", fix="Give the scores after one stage or more.")
    courses: dict[str, list[float]] = {}
    for number, scores in enumerate(stages, start=1):
        if missing := sorted(set(courses) - set(scores)):
            raise ConfigError(f"there are no scores of {missing}", where=f"stage {number}",
                              fix="Evaluate every task learned so far.")  # fmt: skip
        for task, score in scores.items():
            courses.setdefault(task, []).append(score)
    return {task: Memory(course[0], max(course), course[-1]) for task, course in courses.items()}


def plasticity(learned: Mapping[str, float], unhindered: Mapping[str, float]) -> dict[str, float]:
    """How well each task was learned beside a rival that keeps nothing: 0.9 is a loss of plasticity of 10 %.

    Args:
        learned: task to `Memory.learned`.
        unhindered: the same of plain fine-tuning.

    Raises:
        ConfigError: the rival lacks a task, or learned nothing of it.
    """
    for task in learned:
        if not unhindered.get(task, 0.0) > 0:
            raise ConfigError(f"the rival's score is {unhindered.get(task)}", where=task,
                              fix="Train and evaluate the rival on the same tasks.")  # fmt: skip
    return {task: score / unhindered[task] for task, score in learned.items()}
