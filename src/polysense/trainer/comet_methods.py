"""COMET and the methods beside it, each as switches of the same parts (method-facts 2.10).

A method is a row of `METHODS`: what it changes in the model's config and in the objective's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polysense.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CometMethod:
    """Switches of a method.

    Attributes:
        config: fields of `CometConfig`.
        settings: fields of `CometSettings`.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


_WHOLE_SEQUENCES = {"contrast": 0.0, "information": 0.0, "sequence": 1.0, "cross_commitment": False}

METHODS: dict[str, CometMethod] = {
    # DCID (CMG): multi-modal EMA, Cross-CPC, code matching and vCLUB
    "dcid": CometMethod(),
    # CMCM: plain EMA-VQ on shared codes, code matching, and a contrast of whole sequences
    "cmcm": CometMethod(config={"mixing": "none", "information": False}, settings=_WHOLE_SEQUENCES),
    # TURN: soft assignment to shared prototypes, and a contrast of whole sequences
    "turn": CometMethod(
        config={"mixing": "none", "information": False, "assignment": "attention"},
        settings={**_WHOLE_SEQUENCES, "code": 0.0},
    ),
}

_WITHOUT_COMET = CometMethod(config={"num_experts": 0}, settings={"gate": 0.0, "replay": 0.0})


def comet_method(name: str, *, comet: bool) -> CometMethod:
    """The switches of a method, with COMET's adapter, balance and replay or without.

    Growth, replay and EWC belong to stages: see `polysense.continual.codebook_stage`.

    Raises:
        ConfigError: an unknown method.
    """
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}", where="method", fix=f"Known methods: {', '.join(METHODS)}.")
    method, bare = METHODS[name], CometMethod() if comet else _WITHOUT_COMET
    return CometMethod(config={**method.config, **bare.config}, settings={**method.settings, **bare.settings})
