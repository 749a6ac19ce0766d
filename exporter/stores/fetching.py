"""Artifacts and other files of a store, brought to the disk as they were before they were sent."""

import atexit
import hashlib
import json
import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path, PurePosixPath

from exporter.errors import ArgumentError, ArtifactError
from exporter.stores.addresses import is_url, redact, split_name
from exporter.stores.store import Store

# What a recipe reads is hashed by one thread while another one builds the model from it.
_one_at_a_time = threading.Lock()

_MANIFEST = "assets.extra/exporter/manifest.json"


def fetch(url: str) -> Path:
    """Brings a file or a directory of a store to the disk, with the receipt and the signature beside it.

    It is fetched once in the life of a process, unless it has changed, and removed when the process ends. The symbolic
    links that an artifact's manifest names, and no store can hold, are made again.

    Args:
        url: Of an object, or of all below it.

    Returns:
        The path, under the same name.

    Raises:
        ArgumentError: There is nothing at the URL, or it cannot be used.
        ExportError: The store refused.
    """
    directory, name = split_name(url)
    store = Store(url)
    single = store.is_object("")
    if not single and not store.list_objects():
        raise ArgumentError(f"There is nothing at {redact(url)}. Give the URL of an artifact that was exported.")
    key = hashlib.sha256((url + store.fingerprint()).encode()).hexdigest()[:16]
    with _one_at_a_time:
        place = _open_cache() / key
        path = place / name
        if not path.exists():
            arriving = Path(tempfile.mkdtemp(dir=_open_cache()))
            _receive(store, single, arriving / name)
            _receive_beside(Store(directory), name, arriving)
            arriving.rename(place)
    return path


def find_artifact(filepath: str) -> Path:
    """Returns the path of an artifact that was named by its path or by its URL, which is fetched.

    Args:
        filepath: As it was typed.
    """
    return fetch(filepath) if is_url(filepath) else Path(filepath).expanduser()


@cache
def _open_cache() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="exporter-fetched-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _receive(store: Store, single: bool, path: Path) -> None:
    if single:
        store.get("", path)
        return
    for name in store.list_objects():
        if _leaves(name):
            raise ArtifactError(f"{store.locate(name)} has a name that leads out of its directory; it is not fetched.")
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        store.get(name, path / name)
    _make_links(path)


def _receive_beside(directory: Store, name: str, to: Path) -> None:
    for beside in (f"{name}.receipt.json", f"{name}.sig"):
        content = directory.read(beside)
        if content is not None:
            (to / beside).write_bytes(content)


def _make_links(artifact: Path) -> None:
    try:
        records = json.loads((artifact / _MANIFEST).read_bytes())["files"]
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
