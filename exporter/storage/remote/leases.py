"""Who may write at a place in a store: an object that only one can make, and that its holder keeps fresh.

A store has no lock that ends with its holder. So a lease is taken by a conditional write (`If-None-Match: *` at S3 and
Azure, `ifGenerationMatch=0` at Google), and a thread of the holder writes it anew every few seconds. Who waits watches
it by a clock of its own, so the clocks of machines do not matter. A lease that nobody has renewed
for a while is stale: then the next number is taken, which again only one can do.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from exporter.errors import ExportError
from exporter.storage.remote.store import Store

_FRESH_SECONDS = 5.0
_DEAD_SECONDS = 30.0
_LOOK_SECONDS = 0.5

PATTERN = r"\.exporter-claim-[0-9]+-"  # what stands before the name


class Lease:
    """A place that nobody else writes at, as long as this is held."""

    def __init__(self, store: Store, name: str, number: int) -> None:
        """Keeps a claim fresh that has just been made."""
        self._store, self._name, self._number = store, name, number
        self._token = secrets.token_hex(8)
        self._fresh = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="exporter-claim", daemon=True)
        self._thread.start()

    @property
    def object_name(self) -> str:
        """The name of the object."""
        return _name_claim(self._name, self._number)

    def check(self) -> None:
        """Makes sure that nobody can have taken this holder for dead.

        Raises:
            ExportError: Somebody may have.
        """
        if time.monotonic() - self._fresh > _DEAD_SECONDS:
            raise ExportError(
                f"{self._store.locate(self._name)} could not be kept for this export: its store was not reached for "
                f"{_DEAD_SECONDS:.0f} seconds, so that another one may write there by now. Export it again."
            )

    def release(self) -> None:
        """Lets the next one in. Where the store refuses, the next one waits until the claim has stood still."""
        self._ended.set()
        self._thread.join()
        with suppress(ExportError):
            for number in range(1, self._number + 1):
                self._store.remove(_name_claim(self._name, number))

    def _keep_fresh(self) -> None:
        count = 0
        while not self._ended.wait(_FRESH_SECONDS) and time.monotonic() - self._fresh <= _DEAD_SECONDS:
            count += 1
            begun = time.monotonic()
            with suppress(ExportError):  # the next time may do
                self._store.write(self.object_name, f"{self._token} {count}".encode())
                self._fresh = begun


def lease_free(store: Store, name: str) -> Lease | None:
    """Claims a name that nobody has leased; None where somebody has, dead or alive.

    Args:
        store: The directory.
        name: In it.

    Raises:
        ExportError: The store refused.
    """
    return Lease(store, name, 1) if store.write(_name_claim(name, 1), b"", only_new=True) else None


def stale_lease(store: Store, name: str, living: Lease) -> Lease | None:
    """Claims what a holder has left who is dead by the clock of the store; None where that is not certain.

    Args:
        store: The directory.
        name: In it.
        living: A claim that is fresh, for comparison.

    Raises:
        ExportError: The store refused.
    """
    number, _ = _find_last(store, name)
    if not number or store.measure_time(_name_claim(name, number), living.object_name) < 2 * _DEAD_SECONDS:
        return None
    return Lease(store, name, number + 1) if store.write(_name_claim(name, number + 1), b"", only_new=True) else None


@contextmanager
def hold(store: Store, name: str, on_wait: Callable[[], None]) -> Iterator[Lease]:
    """Lets only one at a time write at a name; another one waits until its holder is done, or dead.

    Args:
        store: The directory.
        name: In it.
        on_wait: Is called once where this one has to wait.

    Raises:
        ExportError: The store refused.
    """
    claim = _wait_for(store, name, on_wait)
    try:
        yield claim
    finally:
        claim.release()


def _wait_for(store: Store, name: str, on_wait: Callable[[], None]) -> Lease:
    seen: tuple[int, bytes | None] | None = None
    since, told = time.monotonic(), False
    while True:
        number, content = _find_last(store, name)
        if (number, content) != seen:
            if number and not told:
                on_wait()
                told = True
            seen, since = (number, content), time.monotonic()
        if (not number or time.monotonic() - since > _DEAD_SECONDS) and store.write(
            _name_claim(name, number + 1), b"", only_new=True
        ):
            return Lease(store, name, number + 1)
        time.sleep(_LOOK_SECONDS)


def _find_last(store: Store, name: str) -> tuple[int, bytes | None]:
    number, content = 0, None
    while (found := store.read(_name_claim(name, number + 1))) is not None:
        number, content = number + 1, found
    return number, content


def _name_claim(name: str, number: int) -> str:
    return f".exporter-claim-{number}-{name}"
