"""PathWeave: the first stage's LoRA becomes a path, and every stage adds one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from polysense.continual.adapter_settings import AdapterSettings
from polysense.continual.methods import FreshLora, PathWeave, pathweave
from polysense.continual.stage_adapter import StageAdapter, adapter_folder, read_adapter
from polysense.errors import CheckpointError, ConfigError
from polysense.models.mera import MeraForConditionalGeneration
from polysense.nn.adapter_in_adapter import AdapterInAdapter, use_path
from tests.continual.methods.chain import SENSES, Chain, logits, sample_losses, sequences

METHOD = PathWeave()


def test_the_first_path_is_the_first_stages_lora_on_the_base_weights(chain: Chain) -> None:
    before = logits(chain.start(2))
    model, _ = chain.begun(METHOD, 2)
    base, adapter = chain.context(2, model).base_weights(), read_adapter(adapter_folder(chain.stage(1), 1))
    use_path(model, SENSES[0])
    assert torch.allclose(logits(model), before, atol=1e-5)
    for key, (A, B, scaling) in adapter.factors.items():
        site: Any = model.get_submodule(key.removesuffix(".weight"))
        assert isinstance(site, AdapterInAdapter) and scaling == 2.0
        x = torch.randn(3, A.shape[1])
        torch.testing.assert_close(site(x), x @ base[key].t() + 2.0 * x @ A.t() @ B.t())


def test_earlier_pairs_get_no_gradient_and_stay_what_they_are(chain: Chain) -> None:
    model, _ = chain.begun(METHOD, 2)
    sample_losses(model, sequences(SENSES[1])).mean().backward()
    touched = {name for name, each in model.named_parameters() if each.grad is not None}
    assert touched and all(".paths.video." in name for name in touched)
    assert {name.rpartition("video.")[2] for name in touched} == {"down", "up", "gate", "inner.image"}
    frozen = {name: each.clone() for name, each in model.state_dict().items() if ".paths.video." not in name}
    after = chain.learn(METHOD, 2).state_dict()
    assert all(torch.equal(after[name], each) for name, each in frozen.items())


def test_every_stage_loads_alone_with_the_same_bits_and_older_paths_stay(chain: Chain) -> None:
    found = {}
    for number in (2, 3):
        found[number] = logits(chain.learn(METHOD, number))
    for number, wanted in found.items():
        again: Any = MeraForConditionalGeneration.from_pretrained(chain.stage(number))
        assert again.config.adapters["paths"] == list(SENSES[:number])
        assert torch.equal(logits(again), wanted)
    use_path(again, SENSES[1])
    assert torch.equal(logits(again), found[2])
    assert not (chain.stage(3) / "adapters").exists()


def test_paths_start_from_the_seed_and_the_sense(chain: Chain) -> None:
    starts = [chain.begun(METHOD, 2)[0].state_dict() for _ in range(2)]
    assert all(torch.equal(each, starts[1][name]) for name, each in starts[0].items())
    names = [name for name in starts[0] if name.endswith("video.inner.image")]
    assert names and all(torch.equal(starts[0][name], torch.eye(2)) for name in names)
    drawn = chain.begun(PathWeave(in_adapter_start="linear"), 2)[0].state_dict()
    assert not torch.equal(drawn[names[0]], torch.eye(2))


def test_the_first_path_needs_the_stages_adapter_and_later_ones_do_not(chain: Chain) -> None:
    METHOD.check_start(chain.stage(1), 1)
    with pytest.raises(CheckpointError, match="stage-2: the stage has no adapter of its own that PathWeave could go"):
        METHOD.check_start(chain.stage(1), 2)
    chain.learn(METHOD, 2)
    METHOD.check_start(chain.stage(2), 2)


def test_a_merged_chain_is_gone_on_from_with_what_its_last_lora_counts(chain: Chain) -> None:
    chain.learn(FreshLora(), 2)
    METHOD.check_start(chain.stage(2), 2)
    model, first = chain.start(3), chain.start(2)
    before = logits(model)
    learning = METHOD.learning(model, replace(chain.context(3, model), llm=None))
    learning.check()
    learning.begin()
    use_path(model, SENSES[1])
    assert torch.allclose(logits(model), before, atol=1e-5)
    adapter = read_adapter(adapter_folder(chain.stage(2), 2))
    for key, (A, B, scaling) in adapter.factors.items():
        site: Any = model.get_submodule(key.removesuffix(".weight"))
        torch.testing.assert_close(site.weight, first.get_parameter(key), atol=1e-6, rtol=1e-5)
        x = torch.randn(3, A.shape[1])
        torch.testing.assert_close(site(x), x @ site.weight.t() + scaling / 2 * x @ A.t() @ B.t())


def test_paths_have_the_rank_and_scaling_of_the_lora_whatever_is_asked_for(chain: Chain) -> None:
    model, before = chain.start(2), logits(chain.start(2))
    context = replace(chain.context(2, model), adapter=AdapterSettings(rank=4, alpha=4.0))
    learning = METHOD.learning(model, context)
    learning.check()
    learning.begin()
    assert (model.config.adapters["options"]["rank"], model.config.adapters["options"]["alpha"]) == (2, 4.0)
    use_path(model, SENSES[0])
    assert torch.allclose(logits(model), before, atol=1e-5)


def test_a_merge_that_cannot_be_taken_out_is_refused(chain: Chain) -> None:
    chain.learn(FreshLora(merge="ties"), 2)
    with pytest.raises(CheckpointError, match="adapter was not added to the weights, so PathWeave cannot take it out"):
        METHOD.check_start(chain.stage(2), 2)


def test_adapters_outside_the_language_model_are_refused(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = (torch.zeros(2, 4), torch.zeros(4, 2), 1.0)
    found = StageAdapter(1, 1.0, {"model.connectors.image.linear_1.weight": factors})
    monkeypatch.setattr(pathweave, "read_adapter", lambda folder: found)
    with pytest.raises(ConfigError, match=r"adapter: targets: model\.connectors.* is no part of the language model"):
        chain.begun(METHOD, 2)
