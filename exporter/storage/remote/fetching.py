"""Artifacts and other files of a store, brought to the disk as they were before they were sent."""

import atexit
import hashlib
import json
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from exporter.errors import ArgumentError, ArtifactError, ExportError
from exporter.saving.layout.names import MANIFEST
from exporter.storage.remote.addresses import is_url, redact, split_name
from exporter.storage.remote.replacing import find_previous
from exporter.storage.remote.store import Store
from exporter.storage.sidecars import RECEIPT, SIGNATURE

# What a recipe reads is hashed by one thread while another one builds the model from it.
_one_at_a_time = threading.Lock()

# Where the directories of fetched artifacts are, and their URLs.
_fetched: dict[str, str] = {}

_TRIES = 5


def fetch(url: str) -> Path:
    """Brings a file or a directory of a store to the disk, with the receipt and the signature beside it.

    It is fetched once in the life of a process, unless it has changed, and removed when the process ends. Where it is
    replaced meanwhile, it is fetched again: what comes is the former artifact or the new one. The symbolic
    links that an artifact's manifest names, and no store can hold, are made again.

    Args:
        url: Of an object, or of all below it.

    Returns:
        The path, under the same name.

    Raises:
        ArgumentError: There is nothing at the URL, or it cannot be used.
        ExportError: The store refused, or the artifact did not stand still.
    """
    directory, name = split_name(url)
    beside = Store(directory)
    for _ in range(_TRIES):
        state = _read_state(beside, name)
        if not state.exists:
            raise ArgumentError(f"There is nothing at {redact(url)}. Give the URL of an artifact that was exported.")
        key = hashlib.sha256((url + state.fingerprint).encode()).hexdigest()[:16]
        with _one_at_a_time:
            place = _open_cache() / key
            _fetched[str(place)] = redact(directory)
            path = place / name
            if path.exists():
                return path
            arriving = Path(tempfile.mkdtemp(dir=_open_cache()))
            try:
                _receive(state, name, arriving)
            except ExportError:
                if _read_state(beside, name) == state:
                    raise
                continue  # it has gone because another one has come
            if _read_state(beside, name) == state:
                arriving.rename(place)
                return path
    raise ExportError(f"{redact(url)} was replaced again and again while it was fetched. Try again later.")


def find_artifact(filepath: str) -> Path:
    """Returns the path of an artifact that was named by its path or by its URL, which is fetched.

    Args:
        filepath: As it was typed.
    """
    return fetch(filepath) if is_url(filepath) else Path(filepath).expanduser()


def show_urls(text: str) -> str:
    """Names what was fetched by its URL again, in words that are for its user.

    Args:
        text: In which paths of fetched files may stand.
    """
    for path, url in _fetched.items():
        text = text.replace(path, url)
    return text


@cache
def _open_cache() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="exporter-fetched-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@dataclass(frozen=True, slots=True)
class _State:
    """Where an artifact can be read at this moment, and what changes when it does."""

    store: Store = field(compare=False)
    exists: bool
    fingerprint: str


def _read_state(directory: Store, name: str) -> _State:
    # While it is replaced, the former one is read: what is at the place is neither that nor the new one.
    store = Store(directory.locate(find_previous(directory, name) or name))
    return _State(store, store.exists(""), store.url + store.fingerprint())


def _receive(state: _State, name: str, to: Path) -> None:
    if state.store.is_object(""):
        state.store.get("", to / name)
    else:
        _receive_directory(state.store, to / name)
    directory, stored = split_name(state.store.url)
    for suffix in (RECEIPT, SIGNATURE):
        content = Store(directory).read(stored + suffix)
        if content is not None:
            (to / f"{name}{suffix}").write_bytes(content)


def _receive_directory(store: Store, path: Path) -> None:
    for name in store.list_objects():
        if _leaves(name):
            raise ArtifactError(f"{store.locate(name)} has a name that leads out of its directory; it is not fetched.")
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        store.get(name, path / name)
    _make_links(path)


def _make_links(artifact: Path) -> None:
    try:
        records = json.loads((artifact / MANIFEST).read_bytes())["files"]
        links = {str(record["path"]): str(record["link"]) for record in records if record["link"] is not None}
    except (OSError, ValueError, KeyError, TypeError):
        return  # whoever reads the artifact says what is wrong with it
    for name, target in links.items():
        whole = PurePosixPath(name).parent / target
        path = artifact / name
        if not _leaves(name) and not _leaves(str(whole)) and (artifact / whole).is_file() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts
