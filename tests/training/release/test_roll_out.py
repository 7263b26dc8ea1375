"""When the pointer may move: servers hold two bundles, and a third has to wait."""

import threading
import time
from pathlib import Path

import pytest

from serving.bundle.store import BundleStore
from tests.serving.test_store import publish
from training.lock import moving_pointer
from training.release.roll_out import roll_out

SETTLE = 60.0


class Clock:
    """The time of day, which passes as it is waited for."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        """As time.time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """As time.sleep."""
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path)


def move(store: BundleStore, clock: Clock, bundle_id: str) -> list[float]:
    """Rolls out; what it waited."""
    clock.waits.clear()
    roll_out(store, bundle_id, settle_seconds=SETTLE, wait=clock.wait)
    assert store.pointer().bundle_id == bundle_id
    assert store.pointer().published_at == clock.now
    return clock.waits


def test_a_third_bundle_waits_for_the_second_to_settle(store: BundleStore, clock: Clock) -> None:
    one, two, three = (publish(store, text) for text in ("one", "two", "three"))
    assert move(store, clock, one) == []
    clock.now += 5
    assert move(store, clock, two) == []  # nobody has any other than the first
    clock.now += 5
    assert move(store, clock, three) == [SETTLE - 5]
    clock.now += SETTLE
    assert move(store, clock, one) == []


def test_the_two_that_servers_hold_change_places_at_any_time(store: BundleStore, clock: Clock) -> None:
    one, two, three = (publish(store, text) for text in ("one", "two", "three"))
    move(store, clock, one)
    move(store, clock, two)
    clock.now += 1
    assert move(store, clock, one) == []
    clock.now += 1
    assert move(store, clock, two) == []
    store.roll_back(published_at=clock.now)
    assert move(store, clock, three) == [SETTLE]


def test_rolled_back_meanwhile_it_waits_again(store: BundleStore, clock: Clock) -> None:
    one, two, three = (publish(store, text) for text in ("one", "two", "three"))
    move(store, clock, one)
    move(store, clock, two)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if not waits:
            store.roll_back(published_at=clock.now)  # no lock is held
        waits.append(seconds)

    roll_out(store, three, settle_seconds=SETTLE, wait=wait)
    assert waits == [SETTLE, SETTLE]
    assert (store.pointer().bundle_id, store.pointer().previous) == (three, one)


def test_a_time_that_has_not_come_yet_is_not_waited_for(store: BundleStore, clock: Clock) -> None:
    one, two, three = (publish(store, text) for text in ("one", "two", "three"))
    store.point_to(one, published_at=0)
    store.point_to(two, published_at=10.0**9)
    assert move(store, clock, three) == []


def test_moves_go_one_by_one(store: BundleStore, clock: Clock) -> None:
    one = publish(store, "one")
    with moving_pointer(store.root):
        other = threading.Thread(target=move, args=(store, clock, one))
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join(20)
    assert store.pointer().bundle_id == one
