"""Which bundles are held, what for, and what is said of those that are not."""

import asyncio
import gc
import io
import json
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.bundle import holder as holder_module
from serving.bundle.holder import STUCK_SECONDS, BundleHolder
from serving.bundle.store import BundleError, BundleStore, Pointer
from serving.errors import FailedPreconditionError, Reason, UnavailableError

SETTLE = 60.0
FIVE_MINUTES = 300.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for the holder's thread, which tells nobody; the test's own time limit ends it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@dataclass(eq=False)
class Model:
    """What a bundle is loaded as."""

    bundle_id: str


@dataclass
class World:
    """A pointer, bundles that load or not, and clocks that a test sets."""

    root: Path
    now: float = 1_000.0
    """On both clocks."""
    wall_clock_is_off_by: float = 0.0
    bad: set[str] = field(default_factory=set)
    """Bundles that do not load."""
    tried: list[str] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def point(self, bundle_id: str, previous: str | None = None, *, at: float | None = None) -> None:
        """Moves the pointer, as if at `at`."""
        pointer = Pointer(bundle_id=bundle_id, previous=previous, published_at=self.now if at is None else at)
        aside = self.root / "aside"
        aside.write_text(pointer.model_dump_json())
        aside.rename(self.root / "current")

    def load(self, _store: BundleStore, bundle_id: str) -> Model:
        """Reads a bundle."""
        self.tried.append(bundle_id)
        if bundle_id in self.bad:
            raise BundleError(f"bundle {bundle_id} is damaged")
        return Model(bundle_id)

    @asynccontextmanager
    async def following(self, **options: Any) -> AsyncIterator["Following"]:
        """A holder that follows the pointer while the block runs."""
        holder: BundleHolder[Model] = BundleHolder(
            BundleStore(self.root),
            options.pop("load", self.load),
            load_counter=Counter("loads", "-", ("result",), registry=self.registry),
            info=Gauge("info", "-", ("bundle_id", "role"), registry=self.registry),
            poll_seconds=0.01,
            wall_clock=lambda: self.now + self.wall_clock_is_off_by,
            clock=lambda: self.now,
            **options,
        )
        async with asyncio.timeout(20), holder.loading():
            yield Following(self, holder)

    @asynccontextmanager
    async def settling(self) -> AsyncIterator["Following"]:
        """A holder with a settle delay that answers from bundle 1, as nobody has another one."""
        self.point("1")
        async with self.following(settle_seconds=SETTLE) as following:
            await following.becomes(current="1")  # nobody has another one: nothing to wait for
            yield following

    def loads(self, result: str) -> float:
        """Loads that ended so."""
        return self.registry.get_sample_value("loads_total", {"result": result}) or 0


@dataclass
class Following:
    """A holder at work."""

    world: World
    holder: BundleHolder[Model]

    @property
    def roles(self) -> dict[str, str]:
        """What the metric says: bundles by role."""
        return {
            sample.labels["role"]: sample.labels["bundle_id"]
            for metric in self.world.registry.collect()
            for sample in metric.samples
            if sample.name == "info" and sample.value == 1
        }

    async def becomes(self, **roles: str) -> None:
        """Waits until just these bundles are held, in these roles."""
        await eventually(lambda: self.roles == roles)
        answering = [roles[role] for role in ("current", "previous") if role in roles]
        assert [model.bundle_id for model in self.holder.held()] == answering
        assert self.holder.get().bundle_id == roles["current"]
        for bundle_id in answering:
            found = self.holder.find(bundle_id)
            assert found is not None
            assert found.bundle_id == bundle_id

    async def answers_from(self, bundle_id: str) -> None:
        """Waits until a bundle is the current one."""
        await eventually(lambda: self.roles.get("current") == bundle_id)

    async def stays(self, **roles: str) -> None:
        """Several looks later, these are held."""
        await asyncio.sleep(0.06)
        assert self.roles == roles


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def events(logs: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in logs.getvalue().splitlines()]


# Two bundles, taken at once: ranking and the gateway.


async def test_current_and_previous_are_held_and_found_by_name(world: World) -> None:
    async with world.following(keep_previous=True) as following:
        named = following.holder.named
        with pytest.raises(UnavailableError):
            named("new")
        world.point("new", "old")
        await following.holder.loaded()  # both: others may still name the old one
        assert [model.bundle_id for model in following.holder.held()] == ["new", "old"]
        await following.becomes(current="new", previous="old")
        assert following.holder.find("older") is None
        assert [named(name).bundle_id for name in ("", "new", "old")] == ["new", "new", "old"]
        with pytest.raises(FailedPreconditionError, match="older is not held, but new, old") as error:
            named("older")
    assert error.value.reason is Reason.BUNDLE_MISMATCH
    assert world.tried == ["new", "old"]
    assert (world.loads("loaded"), world.loads("failed")) == (2, 0)


async def test_during_the_delay_the_new_bundle_answers_whoever_names_it(world: World) -> None:
    world.point("2", "1")
    async with world.following(keep_previous=True, settle_seconds=SETTLE) as following:
        await following.becomes(current="2", previous="1")
        world.point("3", "2")
        await eventually(lambda: following.roles == {"current": "2", "next": "3"})
        assert [following.holder.named(name).bundle_id for name in ("", "2", "3")] == ["2", "2", "3"]
        world.now += SETTLE
        await following.becomes(current="3", previous="2")


async def test_the_pointer_is_followed(world: World, logs: io.StringIO) -> None:
    world.point("1")
    async with world.following(keep_previous=True) as following:
        await following.becomes(current="1")
        for current, previous in (("2", "1"), ("3", "2"), ("2", "3"), ("5", "4")):
            world.point(current, previous)  # moved on, rolled back, and two moves between two looks
            await following.becomes(current=current, previous=previous)
        await following.stays(current="5", previous="4")
    assert world.tried == ["1", "2", "3", "5", "4"]
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    held = [(line["current"], line.get("previous")) for line in lines if line["event"] == "bundles held"]
    assert held[:4] == [("1", None), ("2", "1"), ("3", "2"), ("2", "3")]
    assert held[-1] == ("5", "4")


async def test_a_previous_that_does_not_load_is_done_without(world: World) -> None:
    world.bad = {"old"}
    world.point("new", "old")
    async with world.following(keep_previous=True) as following:
        await following.holder.loaded()
        await following.becomes(current="new")
        await following.stays(current="new")
    assert world.tried == ["new", "old"]


async def test_a_previous_that_hangs_is_not_waited_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def load(_store: BundleStore, bundle_id: str) -> Model:
        if bundle_id == "old":
            release.wait(20)
        return Model(bundle_id)

    monkeypatch.setattr(holder_module, "PREVIOUS_SECONDS", 0.05)
    world.point("new", "old")
    try:
        async with world.following(load=load, keep_previous=True) as following:
            await following.holder.loaded()
            assert following.roles == {"current": "new"}
            release.set()
            await following.becomes(current="new", previous="old")
    finally:
        release.set()


@pytest.mark.row(37)
async def test_a_step_that_does_not_end_is_told(world: World) -> None:
    """Row 37: a file system that hangs would block it for good, and nobody would know."""
    entered, leave = threading.Event(), threading.Event()

    def load(_store: BundleStore, bundle_id: str) -> Model:
        entered.set()
        leave.wait(20)
        return Model(bundle_id)

    world.point("one")
    async with world.following(load=load) as following:
        await eventually(entered.is_set)
        world.now += STUCK_SECONDS
        assert following.holder.is_alive()
        world.now += 1
        assert not following.holder.is_alive()
        leave.set()
        await following.becomes(current="one")
        await eventually(following.holder.is_alive)


# One bundle, after the settle delay: candidate and similarity.


async def test_a_new_bundle_waits_until_it_has_settled(world: World) -> None:
    async with world.settling() as following:
        world.point("2", "1")
        await following.becomes(current="1", next="2")
        world.now += SETTLE - 1
        await following.stays(current="1", next="2")
        assert following.holder.find("2") is None
        world.now += 1
        await following.becomes(current="2")
    assert world.tried == ["1", "2"]


async def test_started_during_the_delay(world: World) -> None:
    world.point("2", "1")
    async with world.following(settle_seconds=SETTLE) as following:
        await following.becomes(current="2")  # it has answered nothing yet: no need to go on with "1"
        world.point("3", "2")
        await following.becomes(current="2", next="3")
        world.now += SETTLE
        await following.becomes(current="3")
    assert world.tried == ["2", "3"]


async def test_started_during_the_delay_with_a_damaged_bundle(world: World) -> None:
    world.bad = {"2"}
    world.point("2", "1")
    async with world.following(settle_seconds=SETTLE) as following:
        await following.becomes(current="1")
        world.bad = set()
        world.point("3", "1")
        await following.becomes(current="1", next="3")  # now it has


async def test_the_first_bundle_after_a_start_with_nothing_to_load(world: World) -> None:
    world.bad = {"2", "1"}
    world.point("2", "1")
    async with world.following(settle_seconds=SETTLE) as following:
        await eventually(lambda: world.tried == ["2", "1"])
        world.bad = {"2"}
        world.point("3", "1")
        await following.becomes(current="3")


async def test_started_beside_others_during_the_delay(world: World) -> None:
    world.point("2", "1", at=world.now - 20)
    async with world.following(settle_seconds=SETTLE, settle_at_start=True) as following:
        await following.holder.loaded()
        await following.becomes(current="1", next="2")
        world.now += SETTLE - 20
        await following.becomes(current="2")
    assert world.tried == ["1", "2"]


@pytest.mark.parametrize(
    ("age", "bad", "options", "tried"),
    [
        (SETTLE, set(), {}, ["2"]),
        (0, {"1"}, {"settle_at_start": True}, ["1", "2"]),
    ],
    ids=["after the delay", "beside others without a usable previous"],
)
async def test_started_where_there_is_nothing_to_wait_for(
    world: World, age: float, bad: set[str], options: dict[str, Any], tried: list[str]
) -> None:
    world.bad = bad
    world.point("2", "1", at=world.now - age)
    async with world.following(settle_seconds=SETTLE, **options) as following:
        await following.becomes(current="2")
        await following.stays(current="2")
    assert world.tried == tried


async def test_a_rollback_waits_as_well(world: World) -> None:
    world.point("2", "1", at=0)
    async with world.following(settle_seconds=SETTLE) as following:
        await following.becomes(current="2")
        world.point("1", "2")
        await following.becomes(current="2", next="1")
        world.now += SETTLE
        await following.becomes(current="1")


async def test_rolled_back_during_the_delay_it_never_answers(world: World) -> None:
    async with world.settling() as following:
        world.point("2", "1")
        await following.becomes(current="1", next="2")
        world.now += 10
        world.point("1", "2")
        await following.becomes(current="1")
        world.now += SETTLE
        await following.stays(current="1")
    assert world.tried == ["1", "2"]


async def test_moved_too_early_it_takes_what_others_still_hold(world: World) -> None:
    async with world.settling() as following:
        world.point("3", "2")
        await following.becomes(current="2", next="3")


@pytest.mark.parametrize("published", [10.0**9, -(10.0**9)])
async def test_a_pointer_from_another_time_waits_for_the_delay_at_most(
    world: World, published: float
) -> None:
    async with world.settling() as following:
        world.point("2", "1", at=published)
        if published > 0:
            await following.becomes(current="1", next="2")
            world.now += SETTLE
        await following.becomes(current="2")


@pytest.mark.row(38)
async def test_a_clock_that_is_set_changes_nothing(world: World) -> None:
    async with world.settling() as following:
        world.point("2", "1")
        await following.becomes(current="1", next="2")
        world.wall_clock_is_off_by = 10.0**6
        await following.stays(current="1", next="2")
        world.wall_clock_is_off_by = -(10.0**6)
        world.now += SETTLE
        await following.becomes(current="2")


# Failures: what is held stays.


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({"keep_previous": True}, {"current": "2", "previous": "1"}),
        ({"settle_seconds": 0.0}, {"current": "2"}),
        ({"settle_seconds": SETTLE}, {"current": "2"}),
    ],
    ids=str,
)
async def test_a_refused_bundle_changes_nothing(
    world: World, logs: io.StringIO, options: dict[str, Any], held: dict[str, str]
) -> None:
    world.point("2", "1", at=0)
    world.bad = {"3"}
    async with world.following(**options) as following:
        await following.becomes(**held)
        world.point("3", "2")
        await eventually(lambda: "3" in world.tried)
        await following.stays(**held)
        world.now += SETTLE
        await following.stays(**held)
        assert (world.tried.count("3"), world.loads("failed")) == (1, 1)
        world.point("4", "2")
        world.now += SETTLE
        await following.becomes(current="4", **({"previous": "2"} if "previous" in held else {}))
    refused = [json.loads(line) for line in logs.getvalue().splitlines() if "refused" in line]
    assert [(line["bundle_id"], line["error"]) for line in refused] == [("3", "bundle 3 is damaged")]


async def test_a_refused_bundle_is_tried_again_when_its_files_change(world: World, logs: io.StringIO) -> None:
    bundle = world.root / "bundles" / "1"
    bundle.mkdir(parents=True)
    world.bad = {"1"}
    world.point("1")
    async with world.following() as following:
        await eventually(lambda: world.tried == ["1"])
        await asyncio.sleep(0.06)
        assert world.tried == ["1"]
        (bundle / "file").touch()
        await eventually(lambda: world.tried == ["1", "1"])
        world.bad = set()
        (bundle / "file").write_text("whole")
        await following.becomes(current="1")
    assert events(logs) == ["bundle refused", "bundles held"]  # said once


async def test_a_refused_bundle_is_tried_again_after_five_minutes(world: World) -> None:
    world.bad = {"1"}
    world.point("1")
    async with world.following() as following:
        await eventually(lambda: world.tried == ["1"])
        world.bad = set()
        world.now += FIVE_MINUTES - 1
        await asyncio.sleep(0.06)
        assert world.tried == ["1"]
        world.now += 1
        await following.becomes(current="1")


async def test_nothing_held_is_unavailable_until_something_is(world: World, logs: io.StringIO) -> None:
    async with world.following() as following:
        await asyncio.sleep(0.06)  # several looks at a root without a pointer
        with pytest.raises(UnavailableError) as caught:
            following.holder.get()
        assert caught.value.reason is Reason.MODEL_UNAVAILABLE
        assert following.holder.find("1") is None
        world.point("1")
        await following.holder.loaded()
        assert following.holder.get().bundle_id == "1"
    assert events(logs) == ["no usable pointer", "bundles held"]


@pytest.mark.parametrize("content", ["", "{", None])
async def test_a_damaged_pointer_changes_nothing(world: World, content: str | None) -> None:
    world.point("1")
    async with world.following() as following:
        await following.becomes(current="1")
        pointer = world.root / "current"
        pointer.unlink() if content is None else pointer.write_text(content)
        await following.stays(current="1")
        world.point("2", "1")
        await following.becomes(current="2")


async def test_unforeseen_failure_refuses_the_bundle_with_its_trace(world: World, logs: io.StringIO) -> None:
    def load(store: BundleStore, bundle_id: str) -> Model:
        if bundle_id == "new":
            raise KeyError("confidence")
        return world.load(store, bundle_id)

    world.point("new", "old")
    async with world.following(load=load) as following:
        await following.becomes(current="old")  # as nothing is held yet
    line = json.loads(logs.getvalue().splitlines()[0])
    assert "KeyError: 'confidence'" in line["exception"]
    assert (world.loads("loaded"), world.loads("failed")) == (1, 1)


async def test_an_unforeseen_failure_to_look_does_not_end_the_looking(
    world: World, logs: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: BundleStore) -> Pointer:
        raise RuntimeError("can't start new thread")

    world.point("1")
    async with world.following() as following:
        with monkeypatch.context() as broken:
            broken.setattr(BundleStore, "pointer", fail)
            await eventually(lambda: "defect" in logs.getvalue())
        await following.becomes(current="1")
    assert "can't start new thread" in json.loads(logs.getvalue().splitlines()[0])["exception"]


async def test_leaving_does_not_wait_for_a_load_under_way(world: World) -> None:
    begun, release = threading.Event(), threading.Event()

    def load(_store: BundleStore, bundle_id: str) -> Model:
        begun.set()
        release.wait(30)
        return Model(bundle_id)

    world.point("slow")
    try:
        async with world.following(load=load) as following:
            await eventually(begun.is_set)
        with pytest.raises(UnavailableError):
            following.holder.get()
    finally:
        release.set()


# Memory


@pytest.mark.parametrize(
    ("options", "held"),
    [({"keep_previous": True}, {"6", "5"}), ({"settle_seconds": SETTLE}, {"6"}), ({}, {"6"})],
    ids=["keep_previous", "settle_seconds", "neither"],
)
async def test_what_is_no_longer_held_is_freed(world: World, options: dict[str, Any], held: set[str]) -> None:
    alive: weakref.WeakSet[Model] = weakref.WeakSet()

    def load(_store: BundleStore, bundle_id: str) -> Model:
        model = Model(bundle_id)
        alive.add(model)
        if bundle_id == "7":  # half read
            raise BundleError(f"bundle {model.bundle_id} is damaged")
        return model

    gc.disable()  # what is freed is freed by itself
    try:
        async with world.following(load=load, **options) as following:
            for number in range(8):
                world.point(f"{number}", f"{number - 1}" if number else None, at=0)
                await following.answers_from(f"{min(number, 6)}")
            await eventually(lambda: world.loads("failed") == 1)
            await eventually(lambda: {model.bundle_id for model in alive} == held)
    finally:
        gc.enable()
