"""Build batches ahead of their use in a few threads; what is built does not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """`build(index)` for consecutive indices, up to `depth` of them computed ahead by `workers` threads.

    Threads and not processes: decoding spends its time in C code that releases the interpreter lock, features need
    no copying, and nothing is left behind when the run is killed. An error raised by `build` comes out at the index
    it belongs to.

    Args:
        build: a pure function of the index.
        stop: first index that is never asked for.
        workers: threads; 0 builds on demand in the calling thread.
        depth: how many indices to be ahead.
    """

    def __init__(self, build: Callable[[int], T], *, stop: int, workers: int, depth: int) -> None:
        self._build, self._stop, self._depth = build, stop, depth
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="polysense-load") if workers and depth else None
        self._pending: dict[int, Future[T]] = {}

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __getitem__(self, index: int) -> T:
        if self._pool is None:
            return self._build(index)
        for ahead in range(index, min(index + 1 + self._depth, self._stop)):
            if ahead not in self._pending:
                self._pending[ahead] = self._pool.submit(self._build, ahead)
        future = self._pending.pop(index, None)
        return self._build(index) if future is None else future.result()
