"""MERA and fine-tuning, stage by stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polysense.continual.methods import FreshLora
from polysense.continual.methods.fresh_lora import LoraLearning
from polysense.continual.stage_adapter import adapter_folder, read_adapters
from polysense.errors import ConfigError
from polysense.merging import effective_weight
from polysense.models.mera import MeraForConditionalGeneration
from tests.continual.methods.chain import Chain, logits


@pytest.mark.parametrize(("merge", "shares"), [("running_average", [1.0, 1 / 2, 1 / 3]), (None, [1.0, 1.0, 1.0])])
def test_the_weights_are_the_base_and_the_scaled_adapters_of_all_stages(
    merge: str | None, shares: list[float], tmp_path: Path
) -> None:
    chain = Chain(tmp_path)
    base = dict(chain.start(1).state_dict())
    chain.learn(FreshLora(merge=None), 1)
    for number in (2, 3):
        model = chain.learn(FreshLora(merge=merge), number)
    adapters = read_adapters(chain.stage(3))
    assert [each.coefficient for each in adapters] == shares and all(each.whole for each in adapters)
    for key, weight in model.state_dict().items():
        if key in adapters[0].factors:
            assert torch.equal(weight, effective_weight(base[key], [each.scaled(key) for each in adapters]))
        else:
            assert torch.equal(weight, base[key])
    again = MeraForConditionalGeneration.from_pretrained(chain.stage(3))
    assert torch.equal(logits(again), logits(model))


def test_a_merge_may_have_options_and_says_so_where_it_has(tmp_path: Path) -> None:
    chosen = {"name": "task_arithmetic", "scale": 0.7}
    assert FreshLora(merge=chosen).settings() == {"merge": chosen}
    assert FreshLora(merge={"name": "ties"}).settings() == FreshLora(merge="ties").settings() == {"merge": "ties"}
    chain = Chain(tmp_path)
    chain.learn(FreshLora(merge=None), 1)
    chain.learn(FreshLora(merge=chosen), 2)
    assert [each.coefficient for each in read_adapters(chain.stage(2))] == [1.0, 0.7]
    record = json.loads((adapter_folder(chain.stage(2), 2) / "merge.json").read_text())
    assert (record["method"], record["options"]) == ("task_arithmetic", {"scale": 0.7})


def test_what_was_merged_and_its_rounding_errors_are_told_for_the_stages_record(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.learn(FreshLora(merge=None), 1)
    _, learning = chain.begun(FreshLora(), 2)
    assert learning.record() == {}
    learning.finish()
    told = learning.record()
    assert (told["method"], told["options"], told["coefficient"]) == ("running_average", {}, 0.5)
    assert told["rounding"]["once"] == 0.0 and 0 <= told["rounding"]["by_stage"] < 1e-6


def test_what_a_merge_drops_is_drawn_by_the_seed_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, found = Chain(tmp_path), []
    chain.learn(FreshLora(merge=None), 1)
    context = chain.context
    for seed, merge in ((0, "dare"), (1, "dare"), (0, {"name": "dare", "seed": 1})):
        monkeypatch.setattr(chain, "context", lambda *given, seed=seed: replace(context(*given), seed=seed))
        _, learning = chain.begun(FreshLora(merge=merge), 2)
        assert isinstance(learning, LoraLearning)
        found.append(learning.merge["options"])
    assert found == [{"seed": 0}, {"seed": 1}, {"seed": 1}]


def test_a_stage_that_realigning_changes_as_well_says_so(tmp_path: Path) -> None:
    chain = Chain(tmp_path, whole=False)
    chain.learn(FreshLora(), 1)
    assert not read_adapters(chain.stage(1))[0].whole


def test_other_merge_methods_have_no_sum_and_unknown_ones_are_refused_at_once(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.learn(FreshLora(merge=None), 1)
    chain.learn(FreshLora(merge="slerp"), 2)
    assert [each.coefficient for each in read_adapters(chain.stage(2))] == [1.0, None]
    assert FreshLora(merge="slerp").settings() == {"merge": "slerp"}
    with pytest.raises(ConfigError, match="no merge method 'average'"):
        FreshLora(merge="average")
