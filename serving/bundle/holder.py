"""The model that a process answers from: one reference to one immutable object of one bundle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import structlog
from prometheus_client import Counter

from serving.bundle.store import BundleError, BundleStore
from serving.errors import Reason, UnavailableError

Model = TypeVar("Model")

_logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class LoadResult(StrEnum):
    """How trying to load a bundle ended; values of the metric label `result`."""

    LOADED = "loaded"
    FAILED = "failed"


@dataclass(frozen=True)
class _Failure:
    """Why a bundle was refused. Equal when there is nothing new to say."""

    bundle_id: str | None
    text: str
    error: Exception = field(compare=False)

    def log(self) -> None:
        known = isinstance(self.error, BundleError)  # names bundle and file; anything else needs its trace
        _logger.error(
            "no usable bundle" if self.bundle_id is None else "bundle refused",
            bundle_id=self.bundle_id,
            error=self.text,
            exc_info=None if known else self.error,
        )


class BundleHolder(Generic[Model]):
    """Loads the current bundle, or the previous one, and looks again while neither is usable.

    Args:
        store: where bundles lie.
        load: verifies, reads, checks and warms up a bundle; runs in a thread of its own. Any exception
            refuses the bundle.
        loads: counter with the label `result`.
        poll_seconds: how often to look again.
    """

    def __init__(
        self,
        store: BundleStore,
        load: Callable[[BundleStore, str], Model],
        *,
        loads: Counter,
        poll_seconds: float,
    ) -> None:
        self._store = store
        self._load = load
        self._loads = loads
        self._poll_seconds = poll_seconds
        self._model: Model | None = None
        self._loaded = asyncio.Event()

    def get(self) -> Model:
        """The model; take it once per request, as the next call may give a newer one.

        Raises:
            UnavailableError: none is loaded.
        """
        if self._model is None:
            raise UnavailableError("No bundle is loaded.", reason=Reason.MODEL_UNAVAILABLE)
        return self._model

    async def loaded(self) -> None:
        """Returns once there is a model."""
        await self._loaded.wait()

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Loads in the background while the block runs. Leaving it does not wait for a load under way."""
        # Not the loop's own executor, which a closing loop waits for.
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundle")
        task = asyncio.create_task(self._load_until_valid(executor))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            executor.shutdown(wait=False, cancel_futures=True)

    async def _load_until_valid(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        reported: set[_Failure] = set()
        while True:
            found, failures = await loop.run_in_executor(executor, self._first_valid)
            for failure in failures:
                if failure not in reported:
                    failure.log()
            reported = set(failures)
            if found is not None:
                bundle_id, self._model = found
                self._loaded.set()
                _logger.info("bundle loaded", bundle_id=bundle_id)
                return
            await asyncio.sleep(self._poll_seconds)

    def _first_valid(self) -> tuple[tuple[str, Model] | None, list[_Failure]]:
        try:
            pointer = self._store.pointer()
        except BundleError as error:
            return None, [_Failure(None, str(error), error)]
        failures = []
        for bundle_id in (pointer.bundle_id, pointer.previous):
            if bundle_id is None:
                continue
            try:
                model = self._load(self._store, bundle_id)
            except Exception as error:  # noqa: BLE001  # a damaged file may raise anything; all are logged
                self._loads.labels(LoadResult.FAILED).inc()
                failures.append(_Failure(bundle_id, str(error), error))
            else:
                self._loads.labels(LoadResult.LOADED).inc()
                return (bundle_id, model), failures
        return None, failures
