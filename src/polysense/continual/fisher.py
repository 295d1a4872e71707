"""How much a parameter matters to a task: the diagonal of the Fisher information, in two definitions.

Elastic weight consolidation (Kirkpatrick et al. 2017) asks for the mean over samples of the squared gradient of one
sample's loss, `sample_fisher` (MERA's rival, MERA appendix D). Squaring the gradient of a whole mini-batch instead,
`batch_fisher`, lets samples cancel and gives a far smaller and differently shaped estimate; it is what remains where
the loss is defined on batches alone, as COMET's contrastive one (Eq. 6; method-facts 3.4).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from polysense.continual.linear_uses import Use, record_uses, sum_of_squares
from polysense.errors import ConfigError

Batch = TypeVar("Batch")
Fisher = dict[str, Tensor]
"""Parameter name to its share of the diagonal, in the parameter's shape, float32, on its device."""

CAP_BYTES = 1 << 20  # what the cache of one core holds; more is slower there


def sample_fisher(
    model: nn.Module,
    batches: Iterable[Batch],
    sample_losses: Callable[[Batch], Float[Tensor, " samples"]],
    *,
    which: str = ".*",
    cap_bytes: int = CAP_BYTES,
) -> Fisher:
    """F = 1/n sum_i (d loss_i / d theta)^2, exactly, whatever the batches' sizes.

    Weights and biases of `nn.Linear` modules (LoRA factors are such) cost one backward pass per batch, from which
    their per-sample gradients are put together. All other parameters cost one more backward pass per sample, and so
    does a linear layer whose inputs do not have one row per sample.

    Args:
        model: in the mode it is to be judged in. Its samples must not see each other, its layers take the samples on
            the first axis, and a linear layer's parameters are used through its module alone.
        batches: whatever `sample_losses` takes.
        sample_losses: runs the model on a batch; one loss per sample, such as the mean negative log-likelihood of
            its answer.
        which: pattern of the whole names of the parameters meant; those that do not train are left out.
        cap_bytes: most memory for gradients of single samples at a time (one parameter's for one sample at least).

    Raises:
        ConfigError: no trainable parameter matches, there are no samples, the losses are no vector or do not depend
            on the model, batch normalisation would mix samples, or the result is not finite.
    """
    wanted = _wanted(model, which)
    if any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        raise ConfigError("batch normalisation in training mode mixes the samples of a batch",
                          fix="Call model.eval() first, or use batch_fisher.")  # fmt: skip
    fisher, samples = _zeros(wanted), 0
    for batch in tqdm(batches, desc="Fisher information", unit="batch", disable=None):
        with torch.enable_grad(), record_uses(model, wanted) as uses:
            losses = sample_losses(batch)
        if losses.ndim != 1 or not losses.requires_grad:
            raise ConfigError(
                f"the losses of a batch have shape {tuple(losses.shape)} and requires_grad={losses.requires_grad}",
                fix="Return one loss per sample that depends on the model's parameters.",
            )
        fitting = {name: each for name, each in uses.items() if all(_fits(use, len(losses)) for use in each)}
        others = {name: parameter for name, parameter in wanted.items() if name not in fitting}
        _add_linear(fisher, losses, fitting, cap_bytes, keep_graph=bool(others))
        _add_others(fisher, losses, others)
        samples += len(losses)
    return _mean(fisher, samples)


def batch_fisher(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Float[Tensor, ""]],
    *,
    which: str = ".*",
    average: Callable[[Float[Tensor, " numbers"]], Float[Tensor, " numbers"]] | None = None,
) -> Fisher:
    """F = mean over mini-batches of (d loss / d theta)^2, with the total loss of a batch (COMET, Eq. 6).

    The estimate shrinks with the batch size, which is therefore one of the method's settings.

    Args:
        model, batches, which: see `sample_fisher`.
        loss: runs the model on a batch; the loss that training would descend.
        average: mean over the processes of a row of numbers, where each process has a share of every batch: the
            gradient of the whole batch is squared, and not that of a share.

    Raises:
        ConfigError: no trainable parameter matches, there are no batches, or the result is not finite.
    """
    wanted = _wanted(model, which)
    fisher, count = _zeros(wanted), 0
    for batch in tqdm(batches, desc="Fisher information", unit="batch", disable=None):
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(batch), list(wanted.values()), allow_unused=True)
        _add_squares(fisher, wanted, gradients if average is None else _averaged(wanted, gradients, average))
        count += 1
    return _mean(fisher, count)


def normalised(fisher: Mapping[str, Tensor]) -> Fisher:
    """The same importances with mean 1 over each part of the model, so that lambda means the same for every loss.

    A part is what the first component of a parameter's name says. Over all parts together the one with the largest
    gradients would leave the others loose: by the mean of a text's encoder and the adapter behind it, the adapter is
    held a tenth as fast as by its own.

    Raises:
        ConfigError: all are zero.
    """
    parts = defaultdict[str, list[Tensor]](list)
    for name, each in fisher.items():
        parts[_part(name)].append(each.double().flatten())
    means = {part: float(torch.cat(each).mean()) for part, each in parts.items()}
    if max(means.values()) <= 0:
        raise ConfigError("no parameter has any importance", fix="Compute the Fisher information on the task's loss.")
    return {name: each / (means[_part(name)] or 1.0) for name, each in fisher.items()}


def _part(name: str) -> str:
    return name.partition(".")[0]


def _wanted(model: nn.Module, which: str) -> dict[str, nn.Parameter]:
    own = re.compile(which)
    wanted = {name: each for name, each in model.named_parameters() if each.requires_grad and own.fullmatch(name)}
    if not wanted:
        raise ConfigError("no trainable parameter matches", where=which, fix="Give a pattern of whole names.")
    return wanted


def _zeros(wanted: Mapping[str, nn.Parameter]) -> Fisher:
    return {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in wanted.items()}


def _fits(use: Use, samples: int) -> bool:
    return use.inputs.ndim > 1 and len(use.inputs) == samples


def _add_linear(
    fisher: Fisher, losses: Tensor, uses: Mapping[str, Sequence[Use]], cap_bytes: int, *, keep_graph: bool
) -> None:
    """One backward pass down to the outputs of the linear layers; their weights' gradients are never formed."""
    distinct = {id(use): use for each in uses.values() for use in each}
    if not distinct:
        return
    edges = [use.edge for use in distinct.values()]
    found = torch.autograd.grad(losses.sum(), edges, retain_graph=keep_graph, allow_unused=True)
    gradients = dict(zip(distinct, found, strict=True))
    for name, each in uses.items():
        pairs = [(use.inputs, g) for use in each if (g := gradients[id(use)]) is not None]
        if pairs:
            inputs, by_output = zip(*pairs, strict=True)
            fisher[name] += sum_of_squares(fisher[name].shape, inputs, by_output, cap_bytes)


def _add_others(fisher: Fisher, losses: Tensor, others: Mapping[str, nn.Parameter]) -> None:
    """One backward pass per sample through the graph of the batch: right for every parameter, and slow."""
    if others:
        for each in losses:
            gradients = torch.autograd.grad(each, list(others.values()), retain_graph=True, allow_unused=True)
            _add_squares(fisher, others, gradients)


def _add_squares(fisher: Fisher, wanted: Mapping[str, nn.Parameter], gradients: tuple[Tensor | None, ...]) -> None:
    for name, gradient in zip(wanted, gradients, strict=True):
        if gradient is not None:
            fisher[name].addcmul_(gradient.float(), gradient.float())


def _averaged(
    wanted: Mapping[str, nn.Parameter], gradients: tuple[Tensor | None, ...], average: Callable[[Tensor], Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of the whole batch, of which this process has computed a share; in one transfer."""
    parameters = list(wanted.values())
    pieces = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    flat = average(torch.cat([piece.flatten().float() for piece in pieces]))
    split = flat.split([parameter.numel() for parameter in parameters])
    return tuple(
        piece.view_as(parameter).to(parameter.device) for piece, parameter in zip(split, parameters, strict=True)
    )


def _mean(fisher: Fisher, count: int) -> Fisher:
    if not count:
        raise ConfigError("there is nothing to compute the Fisher information on", fix="Give at least one batch.")
    for name, each in fisher.items():
        if not each.div_(count).isfinite().all():
            raise ConfigError("the Fisher information is not finite", where=name,
                              fix="Look for samples whose loss is not finite.")  # fmt: skip
    return fisher
