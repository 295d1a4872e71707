"""Two gloo processes forked from one that has imported torch, under a watchdog."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

WATCHDOG = 30.0


def run_ranks(function: Callable[[int], Any], world: int = 2, *, group: bool = True) -> list[Any]:
    """`function(rank)` in `world` forked processes; what each returns, or the exception it ended with.

    Args:
        function: its result must be picklable.
        world: number of processes.
        group: make the process group; not for functions that leave it to Accelerate.

    Raises:
        TimeoutError: a process did not end within the watchdog's 30 seconds.
    """
    context, port = multiprocessing.get_context("fork"), _free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(world)]
    children = [
        context.Process(target=_child, args=(function, rank, world, port, group, pipes[rank][1]))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    deadline, outcomes = time.monotonic() + WATCHDOG, []
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
