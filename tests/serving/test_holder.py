"""Which bundle is held, and what is said while none is."""

import asyncio
import io
import json
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from serving.bundle.holder import BundleHolder
from serving.bundle.store import BundleError, BundleStore, Pointer
from serving.errors import Reason, UnavailableError


def point(root: Path, bundle_id: str, previous: str | None = None) -> None:
    root.joinpath("current").write_text(
        Pointer(bundle_id=bundle_id, previous=previous, published_at=0).model_dump_json()
    )


class Held:
    """A holder under test, and what it counts."""

    def __init__(self, root: Path, load: Callable[[BundleStore, str], str]) -> None:
        self.registry = CollectorRegistry()
        loads = Counter("loads", "-", ("result",), registry=self.registry)
        self.holder = BundleHolder(BundleStore(root), load, loads=loads, poll_seconds=0.01)

    def loads(self, result: str) -> float | None:
        """Loads that ended so."""
        return self.registry.get_sample_value("loads_total", {"result": result})


@asynccontextmanager
async def loaded(held: Held) -> Any:
    async with held.holder.loading(), asyncio.timeout(5):
        await held.holder.loaded()
        yield held.holder.get()


def refuse(*bad: str) -> Callable[[BundleStore, str], str]:
    def load(_store: BundleStore, bundle_id: str) -> str:
        if bundle_id in bad:
            raise BundleError(f"bundle {bundle_id} is damaged")
        return f"model of {bundle_id}"

    return load


async def test_current_bundle_is_held(tmp_path: Path) -> None:
    point(tmp_path, "new", "old")
    held = Held(tmp_path, refuse())
    async with loaded(held) as model:
        assert model == "model of new"
    assert (held.loads("loaded"), held.loads("failed")) == (1, None)


async def test_previous_bundle_when_the_current_is_damaged(tmp_path: Path, logs: io.StringIO) -> None:
    point(tmp_path, "new", "old")
    held = Held(tmp_path, refuse("new"))
    async with loaded(held) as model:
        assert model == "model of old"
    assert (held.loads("loaded"), held.loads("failed")) == (1, 1)
    refused, loaded_line = map(json.loads, logs.getvalue().splitlines())
    assert (refused["event"], refused["bundle_id"]) == ("bundle refused", "new")
    assert refused["error"] == "bundle new is damaged"
    assert (loaded_line["event"], loaded_line["bundle_id"]) == ("bundle loaded", "old")


async def test_nothing_held_is_unavailable(tmp_path: Path) -> None:
    holder = Held(tmp_path, refuse()).holder
    with pytest.raises(UnavailableError) as caught:
        holder.get()
    assert caught.value.reason is Reason.MODEL_UNAVAILABLE


async def test_looks_again_and_says_each_failure_once(tmp_path: Path, logs: io.StringIO) -> None:
    held = Held(tmp_path, refuse("bad"))
    async with held.holder.loading():
        await asyncio.sleep(0.05)  # several looks at a root without a pointer
        point(tmp_path, "bad")
        async with asyncio.timeout(5):
            while (held.loads("failed") or 0) < 3:  # noqa: ASYNC110  # there is no event for failing
                await asyncio.sleep(0.01)
            with pytest.raises(UnavailableError):
                held.holder.get()
            point(tmp_path, "good")
            await held.holder.loaded()
        assert held.holder.get() == "model of good"
    events = [json.loads(line)["event"] for line in logs.getvalue().splitlines()]
    assert events == ["no usable bundle", "bundle refused", "bundle loaded"]


async def test_unforeseen_failure_refuses_the_bundle_with_its_trace(
    tmp_path: Path, logs: io.StringIO
) -> None:
    def load(_store: BundleStore, bundle_id: str) -> str:
        if bundle_id == "new":
            raise KeyError("confidence")
        return bundle_id

    point(tmp_path, "new", "old")
    async with loaded(Held(tmp_path, load)) as model:
        assert model == "old"
    line = json.loads(logs.getvalue().splitlines()[0])
    assert "KeyError: 'confidence'" in line["exception"]


async def test_leaving_does_not_wait_for_a_load_under_way(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def load(_store: BundleStore, bundle_id: str) -> str:
        begun.set()
        release.wait(30)
        return bundle_id

    point(tmp_path, "slow")
    held = Held(tmp_path, load)
    try:
        async with asyncio.timeout(5), held.holder.loading():
            while not begun.is_set():  # noqa: ASYNC110  # set by another thread
                await asyncio.sleep(0.01)
        with pytest.raises(UnavailableError):
            held.holder.get()
    finally:
        release.set()
