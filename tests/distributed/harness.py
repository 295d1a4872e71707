"""Two gloo processes forked from one that has imported torch, under a watchdog; and what the cases share."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from polysense.data import Batch
from polysense.trainer import LoopConfig, Objective
from polysense.trainer.distributed import exchange
from polysense.trainer.optimizer import build_optimizer, trainable_parameters
from polysense.trainer.step import StepRunner

CASES: dict[str, Callable[[Path], None]] = {}
TOLERANCE = 1e-5
WATCHDOG = 30.0


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    CASES[function.__name__] = function
    return function


class Plain:
    """Stands for an Accelerator where only device and backward are needed."""

    device = torch.device("cpu")

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def gradients(
    objective: Objective, batches: Sequence[Batch | None], slots: Sequence[str] | None = None
) -> tuple[dict[str, Tensor | None], float]:
    """Reduced gradients of one step over `batches`, one per slot (by default per modality), and its loss."""
    parameters = trainable_parameters(objective.module)
    config, slots = LoopConfig(steps=1, optimizer="sgd"), slots or objective.modalities
    runner = StepRunner(objective, slots, parameters, build_optimizer(parameters, config), Plain(), config)
    counts = exchange([0 if batch is None else len(batch) for batch in batches])
    runner.accumulate(batches, counts)
    loss = runner.reduce()
    return {name: parameter.grad for name, parameter in parameters.items()}, loss


def close(actual: dict[str, Tensor | None], expected: dict[str, Tensor | None], tolerance: float = TOLERANCE) -> None:
    for name, reference in expected.items():
        value = actual[name]
        if reference is None or value is None:
            assert reference is None and (value is None or not value.any()), f"{name} has a gradient on one side only"
            continue
        difference, size = (value - reference).double().norm(), reference.double().norm()
        error = float(difference / size.clamp_min(1e-12))
        assert error <= tolerance, f"relative difference {error:.2e} in {name}"


def succeeded(outcomes: list[Any]) -> list[Any]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes


def run_ranks(
    function: Callable[[int], Any], world: int = 2, *, group: bool = True, watchdog: float = WATCHDOG
) -> list[Any]:
    """`function(rank)` in `world` forked processes; what each returns, or the exception it ended with.

    Args:
        function: its result must be picklable.
        world: number of processes.
        group: make the process group; not for functions that leave it to Accelerate.
        watchdog: seconds that they may take.

    Raises:
        TimeoutError: a process did not end in time.
    """
    context = multiprocessing.get_context("fork")
    # held here, as by torchrun: a port that is merely free may be another's by the time a child binds it
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    pipes = [context.Pipe(duplex=False) for _ in range(world)]
    children = [
        context.Process(target=_child, args=(function, rank, world, store.port, group, pipes[rank][1]))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    deadline, outcomes = time.monotonic() + watchdog, []
    try:
        for rank, (receiver, sender) in enumerate(pipes):
            sender.close()
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"rank {rank} hangs")
            outcomes.append(pickle.loads(receiver.recv_bytes()))
        for child in children:
            child.join(max(0.1, deadline - time.monotonic()))
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()
    return outcomes


def _child(function: Callable[[int], Any], rank: int, world: int, port: int, group: bool, sender: Connection) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ |= {name: str(value) for name, value in place.items()}
    try:
        if group:
            dist.init_process_group("gloo")
        result = function(rank)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        result = error
    sender.send_bytes(pickle.dumps(result))  # tensors by value: the process is gone when they are read
    sender.close()
    sys.stderr.flush()
    os._exit(0)
