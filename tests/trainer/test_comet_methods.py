from __future__ import annotations

import pytest

from polysense.errors import ConfigError
from polysense.models.comet import CometConfig
from polysense.trainer.comet_methods import METHODS, comet_method
from polysense.trainer.comet_settings import CometSettings


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("comet", [False, True])
def test_the_switches_of_a_method_are_fields_that_there_are(name: str, comet: bool) -> None:
    method = comet_method(name, comet=comet)
    config, settings = CometConfig(**method.config), CometSettings(**method.settings)
    assert (config.num_experts > 0) == comet and (settings.gate > 0) == comet == (settings.replay > 0)
    assert (config.mixing == "none") == (name != "dcid") and (settings.sequence > 0) == (name != "dcid")


def test_an_unknown_method_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no method 'best'\. Known methods: dcid, cmcm, turn"):
        comet_method("best", comet=True)
