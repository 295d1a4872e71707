"""UniAlign's objective: which terms there are, what is masked, what binds."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import ConfigError, ManifestError
from polysense.losses import info_nce, soft_binding
from polysense.trainer.unialign import (
    ALIGNMENT_TERMS,
    AlignedBatch,
    ClassTable,
    ObjectiveSettings,
    UniAlignObjective,
)
from tests.trainer import pairs

ROOT = Path(__file__).parents[2]


def test_two_processes_give_the_gradients_of_one_with_the_doubled_batch() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tests.trainer.pairs"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    word, _, count = done.stdout.partition(" ")
    assert word == "equal" and int(count) > 20, done.stdout + done.stderr


def test_the_terms_are_those_of_the_losses_by_hand() -> None:
    objective, batch = pairs.objective(), pairs.batch("depth")
    terms = objective.losses("depth", batch)
    model, own, other = objective.module, objective.tables["depth"], objective.tables["audio"]
    vectors = model.embed("depth", batch.features["depth"])
    rows = torch.tensor([1, 0, 1, 2])  # cup, box, cup, jar among box, cup, jar
    assert own.names == ("box", "cup", "jar")
    scale = float(model.logit_scale)
    images = model.embed("image", batch.features["image"])
    expected = {
        "nce_text": info_nce(vectors, own.embeddings[rows], scale, rows),
        "nce_image": info_nce(vectors, images, scale),
        "soft_bind": soft_binding(vectors, rows, own.embeddings, other.embeddings, scale),
    }
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", ["nce_classes", "classes"])
def test_a_further_term_sees_the_classes_of_all_data_sets_as_the_text_path_is_now(name: str) -> None:
    @ALIGNMENT_TERMS.register(name)
    def classes(aligned: AlignedBatch) -> Tensor:
        return torch.tensor(float(len(aligned.tables)))

    objective = pairs.objective(ObjectiveSettings(soft_bind=0.0, terms={name: 1.0}))
    objective.follow = dict(objective.tables).__getitem__
    assert objective.losses("depth", pairs.batch("depth"))[name] == len(pairs.SENSES)


def test_another_sample_of_the_same_class_is_no_negative() -> None:
    objective = pairs.objective(ObjectiveSettings(nce_image=0.0, soft_bind=0.0))
    batch = pairs.batch("audio")  # ring, ring, knock, ring
    own = objective.tables["audio"].embeddings
    vectors = objective.module.embed("audio", batch.features["audio"])
    logits = objective.module.logit_scale * vectors @ own[torch.tensor([1, 1, 0, 1])].t()
    kept = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]]).bool()
    logits = logits.masked_fill(~kept, -torch.inf)
    target = torch.arange(4)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
    assert torch.allclose(objective.losses("audio", batch)["nce_text"], expected)


@pytest.mark.parametrize("term", ["nce_text", "nce_image", "soft_bind"])
def test_terms_of_weight_zero_are_left_out(term: str) -> None:
    none: dict[str, Any] = {term: 0.0}
    terms = pairs.objective(ObjectiveSettings(**none)).losses("depth", pairs.batch("depth"))
    assert terms.keys() == {"nce_text", "nce_image", "soft_bind"} - {term}


def test_the_binding_is_averaged_over_the_other_data_sets() -> None:
    objective, batch = pairs.objective(), pairs.batch("depth")
    once = objective.losses("depth", batch)["soft_bind"]
    objective.tables["of an earlier stage"] = objective.tables["audio"]
    assert torch.allclose(objective.losses("depth", batch)["soft_bind"], once)


def test_a_binding_scale_of_one_is_the_printed_equation() -> None:
    objective, batch = pairs.objective(ObjectiveSettings(binding_scale=1.0)), pairs.batch("depth")
    own, other = objective.tables["depth"].embeddings, objective.tables["audio"].embeddings
    vectors = objective.module.embed("depth", batch.features["depth"])
    expected = soft_binding(vectors, torch.tensor([1, 0, 1, 2]), own, other, 1.0)
    assert torch.allclose(objective.losses("depth", batch)["soft_bind"], expected)


def test_captions_that_are_equal_are_no_negatives_of_one_another() -> None:
    objective = pairs.objective(ObjectiveSettings(nce_image=0.0, soft_bind=0.0), text="caption")
    alone = objective.losses("depth", pairs.batch("depth", slice(0, 1), captions=["a cup"]))
    twice = objective.losses("depth", pairs.batch("depth", slice(0, 2), captions=["a cup", "a cup"]))
    assert alone["nce_text"].item() == twice["nce_text"].item() == 0.0


def test_samples_without_a_class_take_no_part_in_the_binding() -> None:
    objective = pairs.objective(ObjectiveSettings(nce_image=0.0, nce_text=0.0), text="caption")
    full = objective.losses("depth", pairs.batch("depth", slice(0, 2)))["soft_bind"]
    partly = objective.losses("depth", pairs.batch("depth", labels=["cup", "box", None, None]))["soft_bind"]
    none = objective.losses("depth", pairs.batch("depth", labels=[None] * 4))["soft_bind"]
    assert torch.allclose(partly, full / 2) and none.item() == 0


def test_only_the_senses_that_train_get_a_gradient() -> None:
    objective = pairs.objective()
    sum(objective.losses("depth", pairs.batch("depth")).values(), torch.zeros(())).backward()
    touched = {name for name, parameter in objective.module.named_parameters() if parameter.grad is not None}
    assert touched and all("depth" in name for name in touched)
    assert float(objective.dummy("audio").detach()) == 0


def test_a_sample_of_an_unlisted_class_is_named_with_its_source() -> None:
    with pytest.raises(ManifestError, match="depth: a sample has the class 'vase', which its data set lacks"):
        pairs.objective().losses("depth", pairs.batch("depth", labels=["cup", "vase", "cup", "jar"]))


def test_a_sample_without_a_caption_is_named() -> None:
    objective = pairs.objective(text="caption")
    with pytest.raises(ManifestError, match="depth/depth-1: a sample has no caption"):
        objective.losses("depth", pairs.batch("depth", slice(0, 2), captions=["a cup", None]))  # type: ignore[list-item]


def test_labels_need_a_table_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"sources \['depth'\] pair samples with labels"):
        UniAlignObjective(
            pairs.model(), modalities=["depth"], tables={}, texts={"depth": "label"},
            encode_text=lambda texts: pairs.unit(len(texts), 0), settings=ObjectiveSettings(),
        )  # fmt: skip


def test_labels_of_a_text_path_that_trains_are_encoded_in_every_batch() -> None:
    objective, batch = pairs.objective(ObjectiveSettings(nce_image=0.0)), pairs.batch("depth")
    fixed, vectors, made = objective.losses("depth", batch), torch.nn.Parameter(pairs.unit(3, 7)), list[str]()
    names, others = objective.tables["depth"].names, objective.tables["audio"]

    def follow(name: str) -> ClassTable:
        made.append(name)
        return ClassTable(names, F.normalize(vectors, dim=-1)) if name == "depth" else others

    objective.follow = follow
    followed = objective.losses("depth", batch)
    assert all(torch.allclose(followed[name], value) for name, value in fixed.items()) and made == ["depth", "audio"]
    followed["nce_text"].backward()
    assert vectors.grad is not None and vectors.grad.any()
    torch.nn.init.normal_(vectors)
    assert not torch.allclose(objective.losses("depth", batch)["nce_text"], fixed["nce_text"])


def test_only_the_labels_that_are_used_are_encoded_anew() -> None:
    objective, made = pairs.objective(ObjectiveSettings(nce_image=0.0, soft_bind=0.0)), list[str]()
    tables = dict(objective.tables)

    def follow(name: str) -> ClassTable:
        made.append(name)
        return tables[name]

    objective.follow = follow
    assert objective.losses("depth", pairs.batch("depth")).keys() == {"nce_text"} and made == ["depth"]


def test_tables_follow_the_model_to_its_device() -> None:
    table = ClassTable(("a",), pairs.unit(1, 0))
    assert table.to(torch.device("meta")).embeddings.device.type == "meta" and table.embeddings.device.type == "cpu"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nce_text": -1.0}, "nce_text is -1.0"),
        ({"soft_bind": math.inf}, "soft_bind is inf"),
        (dict.fromkeys(("nce_text", "nce_image", "soft_bind"), 0.0), "weigh nothing"),
        ({"binding_scale": 0.0}, "binding_scale is 0.0"),
    ],
)
def test_weights_that_teach_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveSettings(**values)


def test_a_term_of_the_users_own_is_a_function_and_a_registration() -> None:
    @ALIGNMENT_TERMS.register("spread")
    def spread(aligned: AlignedBatch) -> Tensor:
        assert {*aligned.tables} == {"depth", "audio"} and aligned.modality == "depth"
        return aligned.embeddings.var(dim=0).sum()

    objective, batch = pairs.objective(ObjectiveSettings(soft_bind=0.0, terms={"spread": 0.1})), pairs.batch("depth")
    terms = objective.losses("depth", batch)
    vectors = objective.module.embed("depth", batch.features["depth"])
    assert terms.keys() == {"nce_text", "nce_image", "spread"} and objective.weights["spread"] == 0.1
    torch.testing.assert_close(terms["spread"], vectors.var(dim=0).sum())
    with pytest.raises(ConfigError, match=r"^terms: there is no term 'spraed'.*spread"):
        pairs.objective(ObjectiveSettings(terms={"spraed": 1.0}))
