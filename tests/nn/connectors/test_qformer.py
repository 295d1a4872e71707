from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, Blip2QFormerConfig, Blip2QFormerModel

from polysense.errors import CheckpointError, ConfigError
from polysense.nn.connectors import QFormerConnector, build_connector
from polysense.nn.connectors.qformer import bert_to_qformer

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}


def tiny(**options: Any) -> QFormerConnector:
    connector = build_connector("qformer", 12, 20, **{"queries": 4, **SIZES, **options}).eval()
    assert isinstance(connector, QFormerConnector)
    return connector


def tiny_bert(kind: Any = BertModel, **changes: Any) -> Any:
    return kind(BertConfig(vocab_size=40, max_position_embeddings=8, **{**SIZES, **changes}))


def test_it_is_a_plain_qformer_with_queries_and_an_output_layer() -> None:
    connector, tokens = tiny(), torch.randn(2, 7, 12)
    plain = Blip2QFormerModel(Blip2QFormerConfig(encoder_hidden_size=12, **SIZES)).eval()
    plain.load_state_dict(connector.qformer.state_dict())
    mask = torch.arange(7) < torch.tensor([7, 5])[:, None]
    for given in (None, mask):
        expected = plain(
            query_embeds=connector.queries.expand(2, -1, -1), encoder_hidden_states=tokens,
            encoder_attention_mask=given,
        ).last_hidden_state  # fmt: skip
        torch.testing.assert_close(connector(tokens, given), connector.output(expected), atol=1e-6, rtol=0)


def test_every_second_layer_attends_to_the_encoder_and_there_is_no_text_branch() -> None:
    names = {name.split("encoder.layer.")[-1].rsplit(".", 1)[0] for name in tiny().qformer.state_dict()}
    crossing = {name.split(".")[0] for name in names if "crossattention" in name}
    assert crossing == {"0", "2"}
    assert not any(name.split(".")[1:2] in (["intermediate"], ["output"]) for name in names)


def test_defaults_are_the_papers() -> None:
    """32 queries, bert-base with cross attention in every second layer; counted on no memory."""
    with torch.device("meta"):
        connector = build_connector("qformer", 768, 4096)
    attention, forward = 4 * (768 * 768 + 768) + 2 * 768, 2 * 768 * 3072 + 3072 + 768 + 2 * 768
    expected = 12 * (attention + forward) + 6 * attention + 2 * 768 + 32 * 768 + 768 * 4096 + 4096
    assert sum(parameter.numel() for parameter in connector.parameters()) == expected
    assert connector.out_tokens(496) == 32


def test_the_start_is_berts() -> None:
    torch.manual_seed(0)
    connector = tiny(queries=256)
    assert connector.queries.std().item() == pytest.approx(0.02, rel=0.1)
    assert connector.queries.mean().abs().item() < 1e-3
    assert connector.output.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not connector.output.bias.any()


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_berts_weights_give_berts_function_where_nothing_is_attended_to(kind: Any) -> None:
    """With the cross attention silenced, the Q-Former on BERT's word vectors is BERT without its text branch."""
    bert, connector = tiny_bert(kind).eval(), tiny()
    connector.load_bert(bert.state_dict())
    crossed: Any
    with torch.no_grad():
        for layer in connector.qformer.encoder.layer:
            if layer.has_cross_attention:
                for parameter in layer.crossattention.output.parameters():
                    parameter.zero_()
                layer.crossattention.output.LayerNorm = torch.nn.Identity()
                layer.crossattention.output.dense.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
    body = getattr(bert, "bert", bert)
    vectors = torch.randn(2, 4, 16)
    embedded = body.embeddings.LayerNorm(vectors)
    hidden = embedded
    for layer in body.encoder.layer:
        crossed = layer(hidden)
        hidden = crossed[0] if isinstance(crossed, tuple) else crossed
    found = connector.qformer(query_embeds=vectors, encoder_hidden_states=torch.randn(2, 3, 12)).last_hidden_state
    torch.testing.assert_close(found, hidden, atol=1e-6, rtol=1e-5)


def test_loading_bert_leaves_queries_and_cross_attention_as_they_are() -> None:
    connector = tiny()
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    connector.load_bert(tiny_bert().state_dict())
    changed = {name for name, value in connector.state_dict().items() if not torch.equal(value, before[name])}
    untouched = ("queries", "output.", "crossattention")
    assert changed and not any(name.startswith(untouched[:2]) or untouched[2] in name for name in changed)


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the file of bert-base-uncased names them."""
    gamma = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()}
    return {f"bert.{name.replace('LayerNorm.bias', 'LayerNorm.beta')}": value for name, value in gamma.items()}


def test_the_names_of_the_published_file_are_understood() -> None:
    state = tiny_bert().state_dict()
    new, old = bert_to_qformer(state), bert_to_qformer(old_names(state))
    assert new.keys() == old.keys() and "layernorm.weight" in new
    assert "encoder.layer.1.output_query.dense.weight" in new
    assert all(torch.equal(new[name], old[name]) for name in new)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 2}, "BERT's weights lack 16 of the Q-Former's"),
        ({"hidden_size": 8}, "the weight has shape"),
    ],
)
def test_a_bert_that_does_not_fit_changes_nothing(changes: dict[str, int], message: str) -> None:
    connector = tiny()
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        connector.load_bert(tiny_bert(**changes).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in connector.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries of a connector is 0"),
        ({"queries": 10**6}, "queries of a connector is 1000000"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers of a connector is"),
        ({"hidden_size": 10**9}, "hidden_size of a connector is"),
        ({"hidden_size": 15}, "do not fit kind 'qformer'"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob of a connector is 1.0"),
        ({"hidden_dropout_prob": "much"}, "hidden_dropout_prob of a connector is 'much'"),
        ({"hidden_act": "os"}, r"a qformer has no options \['hidden_act'\]"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**options)
