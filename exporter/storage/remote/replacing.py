"""A place in a store that holds the former artifact or the new one, although no store replaces a directory in one step.

Before anything changes at a place, all that is there is copied to `.exporter-former-<name>` beside it, and the object
`complete` is written there last. As long as it exists, it is the truth about the place: what it was before, or that
nothing was there. Whoever fetches the artifact takes it from there, a replacement that fails puts it back, and the next
one does so for one that was killed. It is removed when the new artifact is complete at the place.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from exporter.errors import ExportError
from exporter.saving.layout.names import GRAPH
from exporter.storage.remote.store import Store
from exporter.storage.sidecars import SIDECARS

_COMPLETE = "complete"
_FORMER = ".exporter-former-{}"

PATTERN = r"\.exporter-former-"  # what stands before the name


def find_previous(store: Store, name: str) -> str | None:
    """Returns where the former artifact is kept while the place is being replaced; None where it is not.

    What belongs beside the artifact is beside it there too. There may be nothing: then nothing was at the place.

    Args:
        store: The directory.
        name: Of the artifact.

    Returns:
        The artifact's name there, relative to the directory.

    Raises:
        ExportError: The store refused.
    """
    former = _FORMER.format(name)
    return f"{former}/{name}" if store.is_object(f"{former}/{_COMPLETE}") else None


def list_artifact(store: Store, name: str) -> dict[str, int]:
    """Lists the objects of an artifact: relative to it, and of an artifact that is one object, by an empty name.

    Args:
        store: The directory.
        name: Of the artifact.

    Returns:
        The names and sizes.

    Raises:
        ExportError: The store refused.
    """
    size = store.measure(name) if store.is_object(name) else None
    return {**store.list_objects(name), **({} if size is None else {"": size})}


def put_back(store: Store, name: str) -> None:
    """Ends a replacement that was killed: at the place is again what was there before.

    Args:
        store: The directory.
        name: Of the artifact; whoever calls holds it.

    Raises:
        ExportError: The store refused.
    """
    former = find_previous(store, name)
    if former is None:
        return
    copies = list_artifact(store, former)
    _hide(store, name)
    for relative in _order(copies):
        _copy(store, _join(former, relative), _join(name, relative), copies[relative])
    remove_all(store, name, except_for=copies)
    for suffix in SIDECARS:
        if (size := store.measure(former + suffix)) is not None:
            _copy(store, former + suffix, name + suffix, size)
        else:
            store.remove(name + suffix)
    _forget(store, name)


@contextmanager
def replacing(store: Store, name: str) -> Iterator[None]:
    """Keeps what is at a place while it is replaced, and puts it back where that fails.

    Inside, the place is out of the sight of readers: `saved_model.pb`, and what is beside the artifact, is removed.

    Args:
        store: The directory.
        name: Of the artifact; whoever calls holds it.

    Raises:
        ExportError: The store refused; where what was there could not be put back, it says where that stands.
    """
    put_back(store, name)
    _forget(store, name)  # what one has left that was killed before its copy was complete
    former = f"{_FORMER.format(name)}/{name}"
    there = list_artifact(store, name)
    for relative, size in there.items():
        _copy(store, _join(name, relative), _join(former, relative), size)
    for suffix in SIDECARS:
        if (beside := store.measure(name + suffix)) is not None:
            _copy(store, name + suffix, former + suffix, beside)
    store.write(f"{_FORMER.format(name)}/{_COMPLETE}", b"")
    try:
        _hide(store, name)
        yield
        store.remove(f"{_FORMER.format(name)}/{_COMPLETE}")
    except BaseException as error:
        try:
            put_back(store, name)
        except ExportError as second:
            where = f"It stands in {store.locate(former)}" if there else "There was nothing"
            raise ExportError(
                f"{error} What was at {store.locate(name)} could not be put back: {second} {where}, and the next "
                "export to this place puts it back first."
            ) from error
        raise
    with suppress(ExportError):  # nobody reads what is left of it, and the next one removes it
        _forget(store, name)


def remove_all(store: Store, name: str, except_for: Iterable[str] = ()) -> None:
    """Removes the objects of an artifact, `saved_model.pb` first.

    Args:
        store: The directory.
        name: Of the artifact.
        except_for: The objects that stay.

    Raises:
        ExportError: The store refused.
    """
    kept = set(except_for)
    for relative in reversed(_order(list_artifact(store, name))):
        if relative not in kept:
            store.remove(_join(name, relative))


def _hide(store: Store, name: str) -> None:
    for suffix in SIDECARS:
        store.remove(name + suffix)
    store.remove(f"{name}/{GRAPH}")


def _forget(store: Store, name: str) -> None:
    former = _FORMER.format(name)
    store.remove(f"{former}/{_COMPLETE}")
    remove_all(store, former)


def _copy(store: Store, name: str, to: str, size: int) -> None:
    store.copy(name, to)
    if store.measure(to) != size:
        raise ExportError(
            f"{store.locate(to)} is not what {store.locate(name)} is: its store has copied it wrongly. Export it again."
        )


def _order(relative: Iterable[str]) -> list[str]:
    return sorted(relative, key=lambda each: (each == GRAPH, each))


def _join(name: str, relative: str) -> str:
    return f"{name}/{relative}" if relative else name
