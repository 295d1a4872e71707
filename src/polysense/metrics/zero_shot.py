"""Zero-shot classification with an ensemble of prompt templates (method-facts 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from polysense.errors import ConfigError


def class_embeddings(
    names: Sequence[str], templates: Sequence[str], encode: Callable[[list[str]], Float[Tensor, "texts embed"]]
) -> Float[Tensor, "classes embed"]:
    """One unit vector per class: encode all templates, normalise each, average, normalise again.

    Args:
        templates: prompts with one `{}` for the class name.
        encode: texts to embeddings; called once per class.

    Raises:
        ConfigError: no class, no template, or a template without its `{}`.
    """
    if not names or not templates or any("{}" not in template for template in templates):
        raise ConfigError(
            f"{len(names)} classes and templates {list(templates)} give no classifier",
            fix="Give at least one class name and one template, each template with {} for the name.",
        )
    prompts = [[template.replace("{}", name) for template in templates] for name in names]
    return F.normalize(torch.stack([F.normalize(encode(each), dim=-1).mean(dim=0) for each in prompts]), dim=-1)


def accuracy(
    embeddings: Float[Tensor, "batch embed"],
    classes: Float[Tensor, "classes embed"],
    labels: Int[Tensor, " batch"],
    ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
    """Top-k accuracies `{"top1": ...}` between 0 and 1 by cosine; k larger than the number of classes counts all."""
    best = (embeddings @ classes.t()).topk(min(max(ks), len(classes)), dim=-1).indices
    hits = best == labels[:, None]
    return {f"top{k}": hits[:, :k].any(dim=-1).float().mean().item() for k in ks}


def mean_average_precision(scores: Float[Tensor, "batch classes"], targets: Int[Tensor, "batch classes"]) -> float:
    """Macro mean of the classes' average precisions, as for AudioSet; classes without a positive are left out."""
    order = scores.argsort(dim=0, descending=True, stable=True)
    hits = targets.gather(0, order).double()
    precision = hits.cumsum(dim=0) / torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    positives = hits.sum(dim=0)
    per_class = (precision * hits).sum(dim=0)[positives > 0] / positives[positives > 0]
    return float(per_class.mean())
