from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from polysense.errors import ConfigError
from polysense.models.comet import CometConfig, CometSense
from polysense.nn.alignment import ALIGNMENTS, same_step


def config(**values: Any) -> CometConfig:
    return CometConfig(**{"modalities": {"text": {"feature_dim": 4}}, **values})


def test_all_values_survive_json() -> None:
    made = config(codebook_sizes=(5, 3), modalities={"video": {"feature_dim": 4, "grid": (2, 2)}})
    again = CometConfig.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict() and again.codebook_sizes == [5, 3]
    assert again.senses["video"].grid == (2, 2) and type(AutoConfig.for_model("comet")) is CometConfig


def test_codes_of_earlier_stages_are_protected_unless_told_otherwise() -> None:
    assert config(codebook_sizes=[5]).protected_codes == 0
    assert config(codebook_sizes=[5, 3, 2]).protected_codes == 8
    assert config(codebook_sizes=[5, 3], protect_old_codes=False).protected_codes == 0


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"codebook_sizes": []}, "codebook_sizes is"),
        ({"codebook_sizes": [4, -1]}, r"codebook_sizes\[1\] is -1"),
        ({"codebook_sizes": [10**7]}, r"codebook_sizes\[0\] is 10000000"),
        ({"num_experts": -1}, "num_experts is -1"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"hidden_size": 10**9}, "hidden_size is"),
        ({"codebook_decay": 1.5}, "decay is 1.5"),
        ({"mixing": "by luck"}, "mixing is 'by luck'"),
        ({"modalities": {"text": {"feature_dim": 0}}}, "features of width 0"),
        ({"modalities": {"text": {"feature_dim": 4, "colour": 1}}}, "modalities.text: unknown key 'colour'"),
        ({"modalities": {"text": {"feature_dim": "4"}}}, "feature_dim of a sense is '4'"),
        ({"modalities": {"text": {}}}, "no feature_dim"),
        ({"modalities": {"keys": {"feature_dim": 4}}}, "taken by the library"),
        ({"modalities": {"text": {"feature_dim": 4, "encoded": True}}}, "the model has no encoder"),
        ({"modalities": {"text": {"feature_dim": 4, "branch": "video"}}}, "no branch 'video'"),
        ({"modalities": {"a": {"feature_dim": 4}, "b": {"feature_dim": 5, "branch": "a"}}}, "does not fit the branch"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        config(**values)


def test_an_alignment_is_chosen_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALIGNMENTS, "mine", same_step)
    assert CometConfig.from_dict(config(mixing="mine").to_dict()).codebook.mixing == "mine"


def test_a_recurrent_sense_has_no_maps() -> None:
    with pytest.raises(ConfigError, match="cannot be recurrent"):
        CometSense(feature_dim=4, grid=(2, 2), recurrent=True)
