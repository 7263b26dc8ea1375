"""The engine of a Spark cluster: the same work on the same shards, in executors."""

import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeAlias

from py4j.protocol import Py4JError, Py4JNetworkError  # type: ignore[import-untyped]
from pyspark import RDD, Broadcast, SparkContext, StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from typing_extensions import override

from training.engine.engine import Arrays, Engine, Shards, Work, opened
from training.errors import TrainingError

_SHARDS_PER_CORE: Final = 4
"""Sent and collected at once: the JVM's heap holds no more, and what is collected is safe."""

_TOLD_BY: Final = frozenset({"PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS"})
"""Variables that are there when `spark-submit` started this process, or stand for its arguments."""
_LOOPBACK: Final = "127.0.0.1"
_DRIVER_MEMORY: Final = "4g"
"""All ratings pass through the heap of the JVM here; Spark's default of 1 GiB is full at 20 million."""
_ERROR_LINE: Final = re.compile(r"^(\S*(?:Error|Exception)): (.+)$", re.MULTILINE)

_Partitions: TypeAlias = tuple[RDD[Arrays], range]


class EngineError(TrainingError):
    """Spark cannot be used, or a job of it failed. The message is for people."""


class SparkEngine(Engine):
    """Works on the cluster that `spark-submit`, or `PYSPARK_SUBMIT_ARGS` in its place, names.

    Without both, executors are threads of a JVM on this machine. Every machine has this package, at
    the same version, in the interpreter that `PYSPARK_PYTHON` names.

    Raises:
        EngineError: there is no Java runtime, or Spark does not start.
    """

    def __init__(self) -> None:
        self._session = _session()

    @property
    @override
    def cores(self) -> int:
        return self._context.defaultParallelism

    @property
    def _context(self) -> SparkContext:
        return self._session.sparkContext

    @override
    def shards(self, parts: Sequence[Arrays]) -> Shards:
        return _SparkShards(self._context, len(parts), partial(_parallelized, self._context, parts))

    @override
    def __exit__(self, *_: object) -> None:
        with _failing_clearly():
            self._session.stop()


class _SparkShards(Shards):
    """Shards of which each is the only element of a partition.

    Work is let go of once its shards are collected: that of ALS holds all factors, and there is another in
    each half of an iteration.

    `partitions` gives an RDD that holds the shards at some places, and the numbers of their partitions.
    """

    def __init__(
        self,
        context: SparkContext,
        size: int,
        partitions: Callable[[range], _Partitions],
        works: Sequence[Broadcast[Work]] = (),
    ) -> None:
        self._context = context
        self._size = size
        self._partitions = partitions
        self._works = works

    @override
    def map(self, work: Work) -> Shards:
        with _failing_clearly():
            sent = self._context.broadcast(work)
        return _SparkShards(self._context, self._size, self._partitions, [*self._works, sent])

    @override
    @contextmanager
    def kept(self) -> Iterator[Shards]:
        with _failing_clearly():
            rdd, _ = self._partitions(range(self._size))
            persisted = self._applied_to(rdd).persist(StorageLevel.MEMORY_AND_DISK)
        try:
            yield _SparkShards(self._context, self._size, lambda places: (persisted, places))
        finally:
            with _failing_clearly():
                persisted.unpersist()
            self._let_go()

    @override
    def collect(self) -> Iterator[Arrays]:
        at_once = _SHARDS_PER_CORE * self._context.defaultParallelism
        for start in range(0, self._size, at_once):
            with _failing_clearly():
                rdd, places = self._partitions(range(start, min(start + at_once, self._size)))
                found = self._context.runJob(self._applied_to(rdd), list, list(places))
                del rdd  # or it is there while the next are sent
            yield from found
        self._let_go()

    def _applied_to(self, rdd: RDD[Arrays]) -> RDD[Arrays]:
        return rdd.map(partial(_apply, self._works)) if self._works else rdd

    def _let_go(self) -> None:
        with _failing_clearly():
            for work in self._works:
                work.destroy()


def _parallelized(context: SparkContext, parts: Sequence[Arrays], places: range) -> _Partitions:
    """Only the shards that are asked for: the heap of the driver's JVM holds all that an RDD is made of."""
    gc.collect()  # py4j's objects refer to themselves: until now the JVM held what was sent before as well
    some = parts[places.start : places.stop]
    return context.parallelize(some, max(1, len(some))), range(len(some))


def _apply(works: Sequence[Broadcast[Work]], part: Arrays) -> Arrays:
    for work in works:
        part = opened(work.value)(part)
    return part


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """What Spark says of a failure is a page: the error at the end of it is what happened."""
    try:
        yield
    except (Py4JNetworkError, ConnectionError) as error:
        raise EngineError(
            "Spark failed: the driver's JVM has ended; if its heap was full, spark.driver.memory enlarges it"
        ) from error
    except (Py4JError, PySparkException) as error:
        found = _ERROR_LINE.findall(str(error))
        ours = [text for name, text in found if name.startswith("training.")]
        told = ours[-1] if ours else ": ".join(found[-1]) if found else str(error)
        raise EngineError(told if ours else f"Spark failed: {told}") from error


def _session() -> SparkSession:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise EngineError(
            "--engine spark needs a Java runtime, version 17 or later: JAVA_HOME names its folder"
        )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # A driver whose heap is full would else wait for its own dead threads, and the job with it.
    os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:+ExitOnOutOfMemoryError")
    builder = (
        SparkSession.builder.appName("movierec")
        .config("spark.driver.maxResultSize", "0")  # the vectors of all users come to the driver
        .config("spark.rpc.message.maxSize", "2047")  # MiB: a task carries its shard
        .config("spark.ui.showConsoleProgress", "false")  # the job has bars of its own
    )
    if not _TOLD_BY & set(os.environ):
        builder = (
            builder.master("local[*]")
            .config("spark.driver.host", _LOOPBACK)
            .config("spark.driver.bindAddress", _LOOPBACK)
            .config("spark.driver.memory", _DRIVER_MEMORY)
            .config("spark.ui.enabled", "false")
        )
    with _failing_clearly():
        return builder.getOrCreate()
