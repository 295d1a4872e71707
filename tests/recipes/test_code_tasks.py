from __future__ import annotations

import pytest
import torch

from polysense.data import Sample
from polysense.errors import ConfigError
from polysense.recipes.code_tasks import TASKS, UNKNOWN, Classification, Labelled, Localisation, events_of
from polysense.recipes.codes import CodeSequences

SAMPLE = Sample(
    "a", {}, {"video": "a bouncing ball"}, {},
    {"seconds": {"video": ["background", "bounce", "ring", "ring"],
                 "audio": [[], ["bounce", "ring"], ["bounce"], []]}},
)  # fmt: skip


def test_seconds_hold_one_class_or_several() -> None:
    assert events_of(SAMPLE, "video") == [[], ["bounce"], ["ring"], ["ring"]]
    assert events_of(SAMPLE, "audio") == [[], ["bounce", "ring"], ["bounce"], []]
    assert events_of(SAMPLE, "text") is None


def test_the_class_of_a_clip_is_its_label_or_the_event_of_most_seconds() -> None:
    assert Classification().label(SAMPLE, "video") == "a bouncing ball"
    assert Classification().label(SAMPLE, "audio") is None
    assert Classification("seconds").label(SAMPLE, "video") == "ring"
    assert Classification("seconds").label(SAMPLE, "audio") == "bounce"
    assert Classification("seconds").label(SAMPLE, "text") is None


def test_localisation_marks_every_class_of_a_second_and_background_where_there_is_none() -> None:
    task, codes = Localisation(), CodeSequences(torch.zeros(2, 4, 3))
    labels = [events_of(SAMPLE, sense) for sense in ("video", "audio")]
    classes = task.classes(labels)
    assert classes == ["bounce", "ring", "background"]
    assert task.truth(labels, classes, codes).int().tolist() == [
        [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]],
        [[0, 0, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1]],
    ]


def test_seconds_and_steps_have_to_agree() -> None:
    task = Localisation()
    with pytest.raises(ConfigError, match="4 labelled seconds beside 5 steps"):
        task.truth([events_of(SAMPLE, "video")], ["bounce", "ring", "background"], CodeSequences(torch.zeros(1, 5, 3)))


def test_chance_is_the_best_constant_answer() -> None:
    codes = CodeSequences(torch.zeros(4, 2, 3))
    assert Classification().chance(Labelled(codes, torch.tensor([0, 2, 2, 2]))) == 0.75
    always = torch.zeros(4, 2, 3, dtype=torch.bool)
    always[..., 2] = True
    assert Localisation().chance(Labelled(codes, always)) == 1


@pytest.mark.parametrize("kind", TASKS)
def test_heads_train_and_answer_in_the_form_of_the_truth(kind: str) -> None:
    task, codes = TASKS[kind](), CodeSequences(torch.randn(5, 4, 3), mask=torch.ones(5, 4, dtype=torch.bool))
    sample = [SAMPLE] * 5
    labels = [task.label(each, "video") for each in sample]
    classes = task.classes(labels)
    data = Labelled(codes, task.truth(labels, classes, codes))
    parts = task.parts(3, len(classes))
    task.loss(parts, data, torch.arange(3)).backward()
    assert all(parameter.grad is not None for parameter in parts.parameters())
    decided = task.decide(parts, codes)
    assert decided.shape == data.truth.shape and decided.dtype == data.truth.dtype
    assert set(task.scores(data.truth, data, 2).values()) == {1.0}
    for metric in task.scores(decided, data, 2):
        low, high = task.interval(metric, decided, data)
        by_batch = metric.endswith("by batch")  # a mean over batches, not a share of samples
        if by_batch:
            assert (low, high) == UNKNOWN
        else:
            assert low is not None and high is not None and 0 <= low <= high <= 1
