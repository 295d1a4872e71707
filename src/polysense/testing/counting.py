"""Exact costs of a call, which no noise can touch: floating-point operations, parameters read, bytes kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of `call`."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


class _Reads(TorchDispatchMode):
    """Notes which of the given storages any operation takes as an argument."""

    def __init__(self, storages: dict[int, int]) -> None:
        super().__init__()
        self.storages, self.read = storages, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() in self.storages:
                self.read.add(leaf.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


def parameter_bytes(model: nn.Module, call: Callable[[], Any]) -> int:
    """Bytes of the model's parameters that `call` reads, each counted once."""
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in model.parameters()}
    with _Reads(storages) as reads:
        call()
    return sum(storages[pointer] for pointer in reads.read)


def saved_bytes(call: Callable[[], Any], exclude: Iterable[Tensor]) -> int:
    """Bytes that `call` keeps for its backward pass: every storage once, those of `exclude` (parameters) left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in exclude}
    kept: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
