"""Who writes at a place in a store: one at a time, and none waits for ever for the dead."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from exporter.errors import ExportError
from exporter.storage.remote import Store, leases
from exporter.storage.remote.leases import hold, lease_free


@pytest.fixture(params=["memory", "file"])
def store(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    monkeypatch.setattr(leases, "_FRESH_SECONDS", 0.02)
    monkeypatch.setattr(leases, "_DEAD_SECONDS", 1.0)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.02)
    url = f"{request.param}://{tmp_path}/claims"
    fsspec.filesystem(request.param).makedirs(url, exist_ok=True)
    return Store(url)


def take_turns(store: Store, count: int) -> tuple[int, int]:
    """Lets some write at one name; returns how many did so at the same time, and how many had to wait."""
    waited: list[int] = []
    inside: list[int] = []
    most: list[int] = []

    def write(number: int) -> None:
        with hold(store, "model", lambda: waited.append(number)) as claim:
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            claim.check()
            inside.remove(number)

    with ThreadPoolExecutor(count) as executor:
        list(executor.map(write, range(count)))
    assert len(most) == count
    return max(most), len(waited)


def test_one_writes_at_a_time(store: Store) -> None:
    assert take_turns(store, 4) == (1, 3)
    assert store.list_objects() == {}


def test_a_dead_holder_is_waited_for_as_long_as_it_may_be_alive(store: Store) -> None:
    store.write(".exporter-claim-1-model", b"of one that was killed")
    begun = time.monotonic()
    assert take_turns(store, 3) == (1, 3)
    assert time.monotonic() - begun > 1.0
    assert store.list_objects() == {}


def test_a_living_holder_is_waited_for_longer(store: Store) -> None:
    order = []
    claim = lease_free(store, "model")
    assert claim is not None
    assert lease_free(store, "model") is None

    def wait() -> None:
        take_turns(store, 1)
        order.append("the next one")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(1.5)
    order.append("the holder")
    claim.release()
    waiting.join()
    assert order == ["the holder", "the next one"]


def test_a_holder_that_may_be_taken_for_dead_stops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_FRESH_SECONDS", 60.0)
    with hold(store, "model", lambda: None) as claim:
        claim.check()
        monkeypatch.setattr(leases, "_DEAD_SECONDS", 0.0)
        with pytest.raises(ExportError) as refused:
            claim.check()
    assert str(refused.value) == (
        f"{store.url}/model could not be kept for this export: its store was not reached for 0 seconds, so that "
        "another one may write there by now. Export it again."
    )
