"""What a process answers from: bundles that follow the pointer while it runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from serving.bundle.store import BundleError, BundleStore, Fingerprint, Pointer
from serving.errors import FailedPreconditionError, Reason, UnavailableError

Model = TypeVar("Model")

_RETRY_SECONDS: Final = 300.0
PREVIOUS_SECONDS: Final = 30.0
"""What a start waits for the previous bundle at most: one that hangs must not keep the current one away."""
STUCK_SECONDS: Final = 900.0
"""A step that takes longer has met a file system that does not answer: a trial ends after a third of it."""

_logger: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a bundle is held for; values of the metric label `role`."""

    CURRENT = "current"
    """Answers."""
    PREVIOUS = "previous"
    """Answers whoever names it."""
    NEXT = "next"
    """Will be current once the settle delay has passed."""


@dataclass(frozen=True)
class _Refusal:
    """A bundle that could not be loaded; not tried again while nothing has changed."""

    files: Fingerprint
    text: str
    until: float
    """On the monotonic clock: then the cause may have been outside of the files, and gone."""


class BundleHolder(Generic[Model]):
    """Holds the bundles that the pointer names, and follows it in the background.

    A new bundle is loaded beside what is held, and taken by swapping one reference. Whatever fails, what is
    held stays. A refused bundle is tried again when the pointer or its files change, or after five minutes.

    Args:
        store: where bundles lie.
        load: verifies, reads, checks and warms up a bundle; runs in a thread of its own. Any exception
            refuses the bundle.
        load_counter: counter with the label `result`.
        info: gauge with the labels `bundle_id` and `role`.
        poll_seconds: how often to look at the pointer.
        keep_previous: holds the pointer's previous bundle as well, to answer whoever names it.
        settle_seconds: how long after the pointer has moved its new bundle becomes current here: by then
            those who keep the previous one have the new one too.
        settle_at_start: waits for that also while nothing is held yet, as others may hold the previous
            bundle alone. Otherwise the pointer's bundle is taken at once.
        wall_clock: seconds since 1970, as in the pointer.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: BundleStore,
        load: Callable[[BundleStore, str], Model],
        *,
        load_counter: Counter,
        info: Gauge,
        poll_seconds: float,
        keep_previous: bool = False,
        settle_seconds: float = 0.0,
        settle_at_start: bool = False,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._load = load
        self._n_loaded, self._n_failed = map(load_counter.labels, ("loaded", "failed"))  # from zero on
        self._info = info
        self._poll_seconds = poll_seconds
        self._places = 2 if keep_previous else 1
        self._settle_seconds = settle_seconds
        self._settle_at_start = settle_at_start
        self._wall_clock = wall_clock
        self._clock = clock
        self._answering: dict[str, Model] = {}  # the current one first; never altered, only replaced
        self._current_since = 0.0
        self._next: dict[str, Model] = {}
        self._shown: dict[str, Role] = {}
        self._refusals: dict[str, _Refusal] = {}
        self._pointer: Pointer | None = None
        self._settled_at = 0.0
        self._trouble = ""
        self._step_began: float | None = None
        self._loaded = asyncio.Event()

    def get(self) -> Model:
        """The current model; take it once per request, as the next call may give a newer one.

        Raises:
            UnavailableError: none is loaded.
        """
        return self.held()[0]

    def held(self) -> Sequence[Model]:
        """All models that answer, the current one first.

        Raises:
            UnavailableError: none is loaded.
        """
        held = tuple(self._answering.values())
        if not held:
            raise UnavailableError("No bundle is loaded.", reason=Reason.MODEL_UNAVAILABLE)
        return held

    def find(self, bundle_id: str) -> Model | None:
        """The model of a bundle; None if it is not held."""
        return self._answering.get(bundle_id)

    def named(self, bundle_id: str) -> Model:
        """The model of the bundle that a request names; the current one where it names none.

        Raises:
            FailedPreconditionError: the bundle is not held.
            UnavailableError: none is.
        """
        current = self.get()
        if not bundle_id:
            return current
        model = self.find(bundle_id)
        if model is None:
            held = ", ".join(self._answering)
            raise FailedPreconditionError(
                f"Bundle {bundle_id} is not held, but {held}.",
                reason=Reason.BUNDLE_MISMATCH,
                requested=bundle_id,
                held=held,
            )
        return model

    def current_since(self) -> float:
        """When the current bundle began to answer here; Unix seconds, 0 while none is loaded."""
        return self._current_since

    def is_alive(self) -> bool:
        """Whether the pointer is still followed: False once a step has not come to its end for too long."""
        return self._step_began is None or self._clock() - self._step_began <= STUCK_SECONDS

    async def loaded(self) -> None:
        """Returns once there is a model, with the previous one if it is kept and loads in time.

        Others may still name the previous bundle: who answered without it would refuse them.
        """
        await self._loaded.wait()

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Follows the pointer while the block runs. Leaving it does not wait for a load under way."""
        # Not the loop's own executor, which a closing loop waits for.
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundle")
        task = asyncio.create_task(self._follow(executor))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            executor.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._step_began = self._clock()
            try:
                seconds = await loop.run_in_executor(executor, self._step)
            except Exception:  # nobody waits for this task: without a word, it would never look again
                _logger.exception("defect")
                seconds = self._poll_seconds
            self._step_began = None
            if self._answering and not self._loaded.is_set():
                nothing_left = seconds > 0  # else the next step loads another bundle
                is_whole = nothing_left or len(self._answering) == self._places
                loop.call_later(0 if is_whole else PREVIOUS_SECONDS, self._loaded.set)
            await asyncio.sleep(seconds)

    def _step(self) -> float:
        """Goes one step, of one bundle at the most, towards what the pointer says.

        Returns:
            Seconds until the next step.
        """
        try:
            pointer = self._store.pointer()
        except BundleError as error:
            if str(error) != self._trouble:
                _logger.error("no usable pointer", error=str(error))  # noqa: TRY400  # the text says it all
            self._trouble = str(error)
            return self._poll_seconds
        self._trouble = ""
        seconds = self._seconds_to_settle(pointer)
        new = pointer.bundle_id
        settled = not seconds or next(iter(self._answering), None) == new
        named = [new, pointer.previous] if settled else [pointer.previous, new]
        order = [bundle_id for bundle_id in named if bundle_id is not None]
        self._refusals = {name: refusal for name, refusal in self._refusals.items() if name in order}
        missing = self._missing(order, settled=settled)
        models = self._answering | self._next
        if missing is not None:
            models |= self._tried(missing)
        self._hold(models, order, settled=settled)
        if missing is not None:
            return 0.0
        return self._poll_seconds if settled else min(self._poll_seconds, seconds)

    def _seconds_to_settle(self, pointer: Pointer) -> float:
        """How long the pointer's new bundle has to wait.

        The wall clock is asked once per pointer, and trusted within the delay: it may be set at any time.
        """
        if pointer != self._pointer:
            delay = self._settle_seconds if self._answering or self._settle_at_start else 0.0
            due = pointer.published_at + delay - self._wall_clock()
            self._settled_at = self._clock() + min(max(due, 0.0), delay)
            self._pointer = pointer
        return max(self._settled_at - self._clock(), 0.0)

    def _missing(self, order: Sequence[str], *, settled: bool) -> str | None:
        """The next bundle to load: the first that is neither held nor refused.

        With one place and nothing to wait for, the second is only needed when the first is refused.
        """
        for bundle_id in order:
            if bundle_id in self._answering or bundle_id in self._next:
                if settled and self._places == 1:
                    return None
            elif not self._is_refused(bundle_id):
                return bundle_id
        return None

    def _is_refused(self, bundle_id: str) -> bool:
        refusal = self._refusals.get(bundle_id)
        return (
            refusal is not None
            and self._clock() < refusal.until
            and refusal.files == self._store.fingerprint(bundle_id)
        )

    def _tried(self, bundle_id: str) -> dict[str, Model]:
        """The bundle by its id; nothing when it is refused."""
        files = self._store.fingerprint(bundle_id)  # before: what changes meanwhile counts as changed
        try:
            model = self._load(self._store, bundle_id)
        except Exception as error:  # a damaged file may raise anything; all are logged
            self._n_failed.inc()
            before = self._refusals.get(bundle_id)
            if before is None or before.text != str(error):
                known = isinstance(error, BundleError)  # names bundle and file; all else needs its trace
                _logger.error(  # noqa: TRY400
                    "bundle refused",
                    bundle_id=bundle_id,
                    error=str(error),
                    exc_info=None if known else error,
                )
            # Not the error itself: its trace holds on to what was already read.
            self._refusals[bundle_id] = _Refusal(files, str(error), self._clock() + _RETRY_SECONDS)
            return {}
        self._n_loaded.inc()
        self._refusals.pop(bundle_id, None)
        return {bundle_id: model}

    def _hold(self, models: dict[str, Model], order: Sequence[str], *, settled: bool) -> None:
        """Takes the first loaded ones in order; while there are too few, what was held stays."""
        named = [bundle_id for bundle_id in order if bundle_id in models]
        unnamed = [bundle_id for bundle_id in self._answering if bundle_id not in order]
        answering = (named + unnamed)[: self._places]
        waiting = [] if settled else [bundle_id for bundle_id in named if bundle_id not in answering]
        if answering[:1] != list(self._answering)[:1]:
            self._current_since = self._wall_clock()
        self._answering = {bundle_id: models[bundle_id] for bundle_id in answering}
        self._next = {bundle_id: models[bundle_id] for bundle_id in waiting}
        upcoming = None if settled else order[-1]
        roles = {bundle_id: Role.NEXT if bundle_id == upcoming else Role.PREVIOUS for bundle_id in answering}
        roles |= dict.fromkeys(waiting, Role.NEXT) | dict.fromkeys(answering[:1], Role.CURRENT)
        self._show(roles)

    def _show(self, roles: dict[str, Role]) -> None:
        if roles == self._shown:
            return
        for bundle_id, role in roles.items():
            self._info.labels(bundle_id, role).set(1)
        for bundle_id, role in self._shown.items() - roles.items():
            self._info.remove(bundle_id, role)
        self._shown = roles
        _logger.info("bundles held", **{role: bundle_id for bundle_id, role in roles.items()})
