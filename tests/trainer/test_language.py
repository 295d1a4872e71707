"""Pre-training on texts."""

from __future__ import annotations

import torch

from polysense.testing import tiny_llama, tiny_tokenizer
from polysense.trainer import Feed, Objective
from polysense.trainer.language import LanguageObjective, TextFeed


def feed(batch_size: int = 4) -> TextFeed:
    return TextFeed(lambda number: " ".join(["red", "ball"] * (1 + number % 3)), tiny_tokenizer(), batch_size, "balls")


def test_texts_are_padded_and_named() -> None:
    (batch,) = feed(3).build(0)
    assert isinstance(feed(), Feed) and batch.ids == ("text 0", "text 1", "text 2") and len(batch) == 3
    assert batch.attention_mask.sum(dim=1).tolist() == [3, 5, 7]
    assert (batch.input_ids[0, 3:] == 0).all()


def test_ranks_side_by_side_are_one_larger_batch() -> None:
    (whole,), parts = feed(4).build(1), [feed(2).build(1, rank, 2)[0] for rank in range(2)]
    assert parts[0].ids + parts[1].ids == whole.ids


def test_the_loss_is_the_mean_over_all_tokens() -> None:
    model, (batch,) = tiny_llama(), feed().build(0)
    objective = LanguageObjective(model)
    assert isinstance(objective, Objective)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    real = batch.attention_mask[:, 1:] == 1
    wanted = torch.nn.functional.cross_entropy(logits[real], batch.input_ids[:, 1:][real])
    assert torch.allclose(objective.losses("text", batch)["next_token"], wanted, atol=1e-5)
    objective.losses("text", batch)["next_token"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert float(objective.dummy("text").detach()) == 0
