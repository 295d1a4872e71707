"""Adapters of another language model of the same shape are told from one's own, and old ones are trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.continual.adapter_checks import check_adapters, check_added, check_base, check_record
from polysense.continual.methods import Ewc, FreshLora, PathWeave
from polysense.continual.stage_adapter import RECORD, adapter_folder, base_digest, read_adapter, read_adapters
from polysense.errors import CheckpointError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.testing import tiny_llama
from tests.continual.methods.chain import Chain


def forget(adapter: Path) -> None:
    """As folders were written before bases were recorded."""
    record = json.loads((adapter / RECORD).read_text())
    (adapter / RECORD).write_text(json.dumps({key: record[key] for key in ("stage", "coefficient", "whole")}))


def test_a_base_has_one_digest_alone_and_in_a_mera_model(chain: Chain) -> None:
    (adapter,) = read_adapters(chain.stage(1))
    bare: Any = tiny_llama()
    mera: Any = MeraForConditionalGeneration.from_parts(chain.folder / "llm")
    keys = [key.replace("model.language_model.", "model.") for key in adapter.factors]
    assert base_digest(keys, bare.get_parameter) == base_digest(adapter.factors, mera.get_parameter) == adapter.base
    other: Any = tiny_llama(1)
    assert base_digest(keys, other.get_parameter) != adapter.base
    assert adapter.merged == base_digest(adapter.factors, chain.start(2).get_parameter) != adapter.base


def test_the_stages_of_a_chain_belong_together(chain: Chain) -> None:
    chain.learn(FreshLora(), 2)
    first, second = read_adapters(chain.stage(2))
    assert first.merged == second.base
    check_adapters(chain.start(3), [first, second])
    with pytest.raises(CheckpointError, match="stage 2 belongs to other weights than those that stage 1 ended with"):
        check_adapters(chain.start(3), [first, replace(second, base="0")])
    with pytest.raises(CheckpointError, match="stage 1 belongs to other weights than those of this model"):
        check_adapters(chain.start(3), [first])
    old = [replace(each, base=None, merged=None) for each in (first, second)]
    check_adapters(chain.start(3), old)
    check_adapters(chain.start(3), old[:1])


@pytest.mark.parametrize("method", [FreshLora(), Ewc(share=1.0), PathWeave()], ids=lambda each: each.name)
def test_an_adapter_of_another_model_of_the_same_shape_is_refused_and_nothing_is_changed(
    method: Any, chain: Chain, tmp_path: Path
) -> None:
    other = Chain(tmp_path / "other")
    tiny_llama(1).save_pretrained(other.folder / "llm")
    other.learn(FreshLora(merge=None), 1)
    own = adapter_folder(chain.stage(1), 1)
    own.rename(tmp_path / "aside")
    adapter_folder(other.stage(1), 1).rename(own)
    model = chain.start(2)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    learning = method.learning(model, chain.context(2, model))
    with pytest.raises(CheckpointError, match="stage 1 belongs to other weights than those of this model"):
        learning.check()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
    forget(own)
    method.learning(model, replace(chain.context(2, model), llm=None)).check()


@pytest.mark.parametrize("method", [FreshLora(), Ewc(share=1.0), PathWeave()], ids=lambda each: each.name)
def test_a_language_model_that_was_exchanged_meanwhile_is_refused(method: Any, chain: Chain) -> None:
    tiny_llama(1).save_pretrained(chain.folder / "llm")
    model = chain.start(2)
    learning = method.learning(model, chain.context(2, model))
    with pytest.raises(CheckpointError, match="llm: this is not the language model that stage 1 was trained on"):
        learning.check()
    forget(adapter_folder(chain.stage(1), 1))
    method.learning(model, chain.context(2, model)).check()


def test_a_base_of_other_layers_is_no_base(chain: Chain) -> None:
    adapter = read_adapter(adapter_folder(chain.stage(1), 1))
    with pytest.raises(CheckpointError, match="here: this is not the language model"):
        check_base({}, adapter, "here")
    check_base({}, replace(adapter, base=None), "here")


def test_adapters_are_added_to_what_they_were_trained_on_or_behind_one_another(chain: Chain) -> None:
    chain.learn(FreshLora(), 2)
    folders = [adapter_folder(chain.stage(2), number) for number in (1, 2)]
    check_added(chain.folder / "llm", folders)
    check_added(chain.stage(1), folders[1:])
    with pytest.raises(CheckpointError, match="stage-2: the adapter of stage 2 was trained on other weights"):
        check_added(chain.folder / "llm", folders[1:])
    forget(folders[0])
    check_added(chain.folder / "llm", folders)  # whether the first one leads there cannot be told


def test_a_stage_without_an_adapter_is_named_with_the_method_that_needs_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the stage has no adapter of its own that EWC could go on from"):
        check_record(tmp_path, "EWC")
