"""Collectives between processes; each is the identity where there is only one.

Every rank runs the same ordered list of modalities in each step. A rank that has no sample of a modality does not
compute, but *attends*: it joins the collectives that the others' loss calls for with nothing of its own. So a gather
inside a loss neither hangs nor changes its meaning, whatever the pattern of absent modalities.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from jaxtyping import Shaped
from torch import Tensor

from polysense.errors import PolysenseError

T = TypeVar("T")

_ATTEND, _GATHER, _REDUCE, _DONE = range(4)
_HEADER_LENGTH = 8
_WIRE_TYPES = (torch.float32, torch.float64, torch.int64)
# Whether some rank has no sample of the modality at work, which then announces its collectives to the attendants.
_announcing: ContextVar[bool] = ContextVar("announcing", default=False)


# How long processes wait for one another: one may build data or score a checkpoint while the others do nothing.
_PATIENCE = timedelta(hours=24)


def grouped() -> bool:
    """Whether there are other processes; joins them first, where a launcher has started several and nobody has yet.

    So `on_main` can be used before the loop makes its Accelerator, and only one process takes itself for the main one.
    """
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(timeout=_PATIENCE)
    return dist.is_initialized()


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if grouped() else 1


def rank() -> int:
    """Place of this process among them."""
    return dist.get_rank() if grouped() else 0


def collective_device() -> torch.device:
    """Where tensors must be for the process group's collectives."""
    on_gpu = grouped() and dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def exchange(values: Sequence[int]) -> list[list[int]]:
    """The integers of every rank, in order of ranks; all ranks give equally many."""
    if world_size() == 1:
        return [list(values)]
    mine = torch.tensor(list(values), dtype=torch.int64, device=collective_device())
    everyone = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(everyone, mine)
    return [row.tolist() for row in everyone]


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on any rank."""
    return any(row[0] for row in exchange([int(flag)]))


def sum_ranks(flat: Tensor) -> Tensor:
    """The sum of a flat tensor over the ranks, in place where possible."""
    if world_size() > 1:
        flat = flat.to(collective_device())
        dist.all_reduce(flat)
    return flat


def mean_ranks(flat: Tensor) -> Tensor:
    """The mean of a flat tensor over the ranks, in place where possible."""
    return sum_ranks(flat) / world_size()


def gather_objects(value: T) -> list[T]:
    """A small Python object of every rank, in order of ranks."""
    if world_size() == 1:
        return [value]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def on_main(action: Callable[[], T]) -> T:
    """Run `action` on rank 0 and give its result to all; its `PolysenseError` is raised on all, so that none waits."""
    result: T | None = None
    error: PolysenseError | None = None
    if rank() == 0:
        try:
            result = action()
        except PolysenseError as raised:
            error = raised
    if world_size() > 1:
        outcome: list[Any] = [result, error]
        dist.broadcast_object_list(outcome, src=0)
        result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # the main process has set it


def gather_with_grad(rows: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "all_rows ..."]:
    """The rows of every rank below one another, in order of ranks, with gradients.

    Ranks may have different numbers of rows. The backward pass sums over the ranks what each one's loss says about the
    rows; together with the loop's mean over ranks this gives the gradient of one process that holds all rows, both
    for a loss of the rank's own rows and for one of the whole gathered batch.
    """
    return rows if world_size() == 1 else _Gather.apply(rows, _announcing.get())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, announcing: bool) -> Tensor:
        pieces = _all_gather(rows)
        ctx.announcing, ctx.dtype = announcing, rows.dtype
        ctx.start, ctx.count = sum(len(piece) for piece in pieces[: rank()]), len(rows)
        return torch.cat(pieces).to(rows.device, rows.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = _wire(grads[0])
        if ctx.announcing:
            exchange(_header(_REDUCE, total))
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count].to(grads[0].device, ctx.dtype), None


def _wire(tensor: Tensor) -> Tensor:
    """A copy in one of the few types that every backend can send."""
    wide = torch.promote_types(tensor.dtype, torch.float32 if tensor.is_floating_point() else torch.int64)
    return tensor.detach().to(collective_device(), wide, copy=True).contiguous()


def _header(operation: int, tensor: Tensor | None = None) -> list[int]:
    shape = [] if tensor is None else list(tensor.shape)
    kind = 0 if tensor is None else _WIRE_TYPES.index(tensor.dtype)
    return [operation, kind, len(shape), *shape] + [0] * (_HEADER_LENGTH - 3 - len(shape))


def _all_gather(rows: Tensor) -> list[Tensor]:
    """Every rank's rows; they are padded to the longest for the transfer."""
    wire = _wire(rows)
    headers = exchange(_header(_GATHER, wire))
    return _gather_padded(wire, [header[3] if header[0] == _GATHER else 0 for header in headers])


def _gather_padded(wire: Tensor, counts: Sequence[int]) -> list[Tensor]:
    padded = wire.new_zeros((max(counts), *wire.shape[1:]))
    padded[: len(wire)] = wire
    everyone = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(everyone, padded)
    return [piece[:count] for piece, count in zip(everyone, counts, strict=True)]


@contextmanager
def attendance(present: Sequence[bool]) -> Iterator[bool]:
    """Run one modality's forward and backward while ranks without a sample of it attend.

    Args:
        present: for every rank, whether it has samples; the same on all ranks.

    Yields:
        Whether this rank is to compute. A rank that is not leaves the block's body empty, and attends at its end.
    """
    partial, mine = not all(present) and any(present), present[rank()]
    token = _announcing.set(partial)
    try:
        yield mine
        if partial and mine:
            exchange(_header(_DONE))
        elif partial:
            _attend()
    finally:
        _announcing.reset(token)


def _attend() -> None:
    """Join the collectives that the present ranks announce, with no rows, until they are done."""
    while True:
        headers = exchange(_header(_ATTEND))
        operation, kind, axes, *shape = next(header for header in headers if header[0] != _ATTEND)
        if operation == _DONE:
            return
        dtype, shape = _WIRE_TYPES[kind], shape[:axes]
        if operation == _GATHER:
            counts = [header[3] if header[0] == _GATHER else 0 for header in headers]
            _gather_padded(torch.empty((0, *shape[1:]), dtype=dtype, device=collective_device()), counts)
        else:
            dist.all_reduce(torch.zeros(shape, dtype=dtype, device=collective_device()))
