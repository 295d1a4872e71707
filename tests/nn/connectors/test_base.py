"""What holds for connectors of every kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.nn.connectors import Connector, build_connector, connector_kinds, connector_options, register_connector
from polysense.nn.connectors import base as registry

IN_DIM, OUT_DIM = 12, 20
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {},
    "qformer": {"queries": 4, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2},
}  # fmt: skip


def small(kind: str) -> Connector:
    return build_connector(kind, IN_DIM, OUT_DIM, **SMALL[kind]).eval()


def test_every_kind_is_looked_at() -> None:
    assert set(SMALL) == set(connector_kinds())


@pytest.mark.parametrize("kind", SMALL)
def test_shapes_are_as_promised(kind: str) -> None:
    connector = small(kind)
    for tokens in (1, 5, 9):
        assert connector(torch.randn(2, tokens, IN_DIM)).shape == (2, connector.out_tokens(tokens), OUT_DIM)


@pytest.mark.parametrize("kind", SMALL)
def test_padding_changes_no_real_output(kind: str) -> None:
    connector, tokens = small(kind), torch.randn(2, 6, IN_DIM)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    padded = connector(tokens, mask)
    alone = connector(tokens[1:, :4])
    real = connector.out_tokens(4)
    torch.testing.assert_close(padded[1, :real], alone[0, :real], atol=1e-6, rtol=1e-5)
    changed = connector(torch.where(mask[..., None], tokens, 9.0), mask)
    torch.testing.assert_close(changed[1, :real], padded[1, :real], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", SMALL)
def test_items_do_not_meet(kind: str) -> None:
    connector, tokens = small(kind), torch.randn(3, 5, IN_DIM)
    together = connector(tokens)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], connector(tokens[index : index + 1]),
                                   atol=1e-6, rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
def test_the_number_of_outputs_is_constant_or_proportional(kind: str) -> None:
    """What lets a processor count placeholders without the model."""
    count = small(kind).out_tokens
    assert {count(n) for n in (1, 5, 10)} == {count(1)} or [count(n) for n in (2, 5, 10)] == [
        n * count(1) for n in (2, 5, 10)
    ]


@pytest.mark.parametrize("kind", SMALL)
def test_a_reset_draws_every_weight_anew(kind: str) -> None:
    connector = small(kind)
    with torch.no_grad():
        for parameter in connector.parameters():
            parameter.fill_(7.0)
    connector.reset_parameters()
    assert not any((parameter == 7.0).any() for parameter in connector.parameters())


@pytest.mark.parametrize("kind", SMALL)
def test_unknown_options_are_named(kind: str) -> None:
    with pytest.raises(ConfigError, match="smell"):
        build_connector(kind, IN_DIM, OUT_DIM, smell=1)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("size", [0, -1, 10**9, True])
def test_widths_that_no_connector_has_are_refused(kind: str, size: int) -> None:
    with pytest.raises(ConfigError, match="in_dim of a connector is"):
        build_connector(kind, size, OUT_DIM, **SMALL[kind])


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ConfigError, match=r"Known kinds: mlp, qformer.* import .*register_connector\('glue'\)"):
        build_connector("glue", 1, 1)


def test_a_new_kind_is_one_class_and_one_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_CONNECTORS", dict(registry._CONNECTORS))

    @register_connector("mean")
    class Mean(Connector):
        def out_tokens(self, tokens: int) -> int:
            return 1

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return tokens.mean(dim=1, keepdim=True)

    assert build_connector("mean", 3, 3)(torch.ones(2, 5, 3)).shape == (2, 1, 3)
    with pytest.raises(ConfigError, match="connector kind 'mean' is already registered"):
        register_connector("mean")(type("Other", (Connector,), {}))


def test_a_class_without_forward_says_so() -> None:
    with pytest.raises(ConfigError, match="Connector does not define forward"):
        Connector(2, 2)(torch.ones(1, 1, 2))


def test_a_connector_is_named_or_spelled_out() -> None:
    assert connector_options("mlp") == {"kind": "mlp"}
    assert connector_options({"kind": "qformer", "queries": 8}) == {"kind": "qformer", "queries": 8}
    with pytest.raises(ConfigError, match=r"the connector \{'queries': 8\} has no kind"):
        connector_options({"queries": 8})
