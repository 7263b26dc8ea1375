"""The engine of one machine: threads, and processes for work that holds the interpreter."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Final

from typing_extensions import override

from training.engine.engine import Arrays, Engine, Shards, Work, opened
from training.errors import TrainingError

_WAITING_PER_WORKER: Final = 2


class WorkerError(TrainingError):
    """A process that worked on shards is gone. The message is for people."""


class LocalEngine(Engine):
    """Works on this machine, with so many threads, or processes; no answer depends on their number."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    @property
    @override
    def cores(self) -> int:
        return self._workers

    @override
    def shards(self, parts: Sequence[Arrays]) -> Shards:
        return _LocalShards(self._workers, lambda: parts)


class _LocalShards(Shards):
    def __init__(self, workers: int, parts: Callable[[], Iterable[Arrays]]) -> None:
        self._workers = workers
        self._parts = parts

    @override
    def map(self, work: Work) -> Shards:
        return _LocalShards(self._workers, lambda: self._mapped(work))

    @override
    @contextmanager
    def kept(self) -> Iterator[Shards]:
        parts = list(self._parts())
        yield _LocalShards(self._workers, lambda: parts)

    @override
    def collect(self) -> Iterator[Arrays]:
        yield from self._parts()

    def _mapped(self, work: Work) -> Iterator[Arrays]:
        if not work.HOLDS_INTERPRETER:
            function = work.open()
            with ThreadPoolExecutor(self._workers) as pool:
                yield from self._in_order(lambda part: pool.submit(function, part))
            return
        try:
            # Not forked: this process has threads. All that shards share is therefore in each process.
            with ProcessPoolExecutor(
                self._workers, mp_context=get_context("spawn"), initializer=_end_with_parent
            ) as processes:
                yield from self._in_order(lambda part: processes.submit(_apply, work, part))
        except BrokenProcessPool as error:
            raise WorkerError("a process of this job was killed, maybe as memory ran out") from error

    def _in_order(self, submit: Callable[[Arrays], Future[Arrays]]) -> Iterator[Arrays]:
        waiting: deque[Future[Arrays]] = deque()
        for part in self._parts():
            waiting.append(submit(part))
            if len(waiting) >= _WAITING_PER_WORKER * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _apply(work: Work, part: Arrays) -> Arrays:
    return opened(work)(part)


def _end_with_parent() -> None:
    """Lets a worker end when the job is killed, instead of waiting for shards that never come."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_wait_and_end, args=(parent.sentinel,), daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
