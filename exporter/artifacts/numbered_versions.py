"""The numbered versions in a directory that a server watches, as their receipts and manifests tell of them."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from exporter.artifacts.manifest import read_manifest
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Score
from exporter.errors import ArtifactError
from exporter.saving.contents import Endpoint
from exporter.saving.layout.documents import MAX_JSON
from exporter.saving.layout.names import GRAPH, MANIFEST
from exporter.storage.digests import FileRecord
from exporter.storage.sidecars import name_receipt
from exporter.text.showing import list_first

# A server reads `007` and `-5` as integers too; no exporter writes such names, and who chooses one by its number
# would not find it.
_NUMBER = re.compile("0|[1-9][0-9]*")
_MOST_BYTES = 2**63
_DIGITS = 8  # of a digest: enough to tell the contracts of a directory apart


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedVersion:
    """One version, as far as its records tell.

    Attributes:
        number: Of the version.
        path: Where it is.
        newest: Whether it is the one that a server takes.
        status: `proven` or `written`; empty where no receipt tells.
        finished: When it was published, ISO 8601 with a time zone; empty where no receipt tells.
        recipe: What its model was made by; empty where no receipt tells.
        scores: How well it does on labelled data; empty where that was not asked.
        total_bytes: Of its files; None where neither record tells.
        contract: A short digest of the names, shapes and dtypes of its endpoints; empty where no receipt tells.
        came_from: Where its bytes were before; empty where it was exported here.
        broken: Whether it is not as it was published, or no server can load it.
        fault: What is wrong with it, or cannot be told; empty where nothing is.
    """

    number: int
    path: str
    newest: bool
    status: str = ""
    finished: str = ""
    recipe: str = ""
    scores: tuple[Score, ...] = ()
    total_bytes: int | None = None
    contract: str = ""
    came_from: str = ""
    broken: bool = False
    fault: str = ""


def list_numbers(directory: Path) -> list[int]:
    """Lists the versions that a server can load: numbered entries with a SavedModel, the oldest first.

    Args:
        directory: Of the versions; it need not be there.
    """
    return [number for number in _list_all(directory) if os.path.isfile(directory / str(number) / GRAPH)]


def find_newest(directory: Path) -> Path | None:
    """Finds the version that a server takes; None for what is no directory of versions.

    Args:
        directory: Any path.
    """
    if os.path.exists(directory / GRAPH):
        return None
    numbers = list_numbers(directory)
    return directory / str(numbers[-1]) if numbers else None


def read_versions_of(directory: Path) -> tuple[NumberedVersion, ...]:
    """Reads what the receipts and the manifests tell of all versions; no other file is opened.

    Args:
        directory: Of the versions.

    Returns:
        The versions, the newest first; one that is damaged says so.

    Raises:
        ArtifactError: It is no directory of versions.
    """
    numbers = _list_all(directory)
    if os.path.exists(directory / GRAPH):
        raise ArtifactError(
            f"{directory} is a SavedModel itself and no directory of versions. See it with: exporter inspect "
            f"{shlex.quote(str(directory))}"
        )
    if not numbers:
        what = "holds no numbered versions" if os.path.isdir(directory) else "is no directory of versions"
        raise ArtifactError(
            f"{directory} {what}. Expected directories 1, 2, ... as layout=tf_serving "
            f"{shlex.quote(f'filepath={directory}')} writes them."
        )
    servable = list_numbers(directory)
    return tuple(_read_version(directory, number, servable[-1:] == [number]) for number in reversed(numbers))


def digest_contract(endpoints: Mapping[str, Endpoint]) -> str:
    """Returns a short digest of what clients rely on: equal if and only if names, shapes and dtypes are.

    Args:
        endpoints: By name.
    """
    contract = json.dumps({name: asdict(endpoint) for name, endpoint in endpoints.items()}, sort_keys=True)
    return hashlib.sha256(contract.encode()).hexdigest()[:_DIGITS]


def read_text(path: Path) -> str:
    """Reads a record, which may be anybody's.

    Args:
        path: The file.

    Raises:
        ArtifactError: It is too long, or no file.
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text.
    """
    if not os.path.isfile(path):
        raise ArtifactError("it is no file")
    if path.stat().st_size > MAX_JSON:
        raise ArtifactError(f"it has {path.stat().st_size:,} bytes; at most {MAX_JSON:,} are read")
    return path.read_text(encoding="utf-8")


def _list_all(directory: Path) -> list[int]:
    try:
        names = os.listdir(directory) if os.path.isdir(directory) else []
    except OSError as error:
        raise ArtifactError(f"{directory} cannot be read: {error}. Give a directory that you may read.") from error
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))


def _read_version(directory: Path, number: int, newest: bool) -> NumberedVersion:
    path = directory / str(number)
    faults, missing = list[str](), list[str]()
    files: tuple[FileRecord, ...] | None = None
    receipt: Receipt | None = None
    if not os.path.isfile(path / GRAPH):
        faults.append(f"there is no {GRAPH} in it: a server cannot load it")
    try:
        if os.path.lexists(path / MANIFEST):
            read_text(path / MANIFEST)
            files = read_manifest(path / MANIFEST)
            faults += _compare_sizes(path, files)
    except (ArtifactError, OSError, UnicodeDecodeError, RecursionError) as error:
        faults.append(f"its manifest cannot be read: {_without(error, path)}")
    beside = name_receipt(path)
    try:
        if os.path.lexists(beside):
            receipt = Receipt.from_json(read_text(beside))
        else:
            missing.append("there is no receipt beside it")
    except (ArtifactError, OSError, UnicodeDecodeError) as error:
        faults.append(f"its receipt cannot be read: {_without(error, beside)}")
    known = NumberedVersion(number=number, path=str(path), newest=newest, broken=bool(faults))
    if receipt is None:
        own = (path / MANIFEST).stat().st_size if files is not None else 0
        size = None if files is None else own + sum(record.size for record in files)
        return replace(known, total_bytes=_bound(size), fault="; ".join(faults + missing))
    faults += _compare_records(path, files, receipt)
    return replace(
        known,
        status=str(receipt.status),
        finished=receipt.finished,
        recipe=_name_recipe(receipt.recipe),
        scores=receipt.scores or (receipt.deployment.scores if receipt.deployment else ()),
        total_bytes=_bound(receipt.total_bytes),
        contract=digest_contract(receipt.signatures),
        came_from=receipt.came_from,
        broken=bool(faults),
        fault="; ".join(faults),
    )


def _compare_sizes(path: Path, files: tuple[FileRecord, ...]) -> Iterator[str]:
    """Says which files are missing or have another size: their bytes are read by `exporter verify`."""
    wrong = []
    for record in files:
        name = PurePosixPath(record.path)
        place = path / name
        if name.is_absolute() or ".." in name.parts:
            wrong.append(f"{record.path} is named and lies outside of it")
        elif record.link is not None:
            wrong += [] if place.is_symlink() else [f"{record.path} is no link"]
        elif not os.path.isfile(place):
            wrong.append(f"{record.path} is missing")
        elif place.stat().st_size != record.size:
            wrong.append(f"{record.path} has {place.stat().st_size:,} bytes instead of {record.size:,}")
    if wrong:
        yield list_first(wrong)


def _compare_records(path: Path, files: tuple[FileRecord, ...] | None, receipt: Receipt) -> Iterator[str]:
    """Says whether receipt and manifest speak of the same bytes."""
    own = next((record for record in receipt.files if record.path == MANIFEST), None)
    if own is not None and not os.path.isfile(path / MANIFEST):
        yield "its manifest is missing"
    elif files is not None and set(files) != {record for record in receipt.files if record.path != MANIFEST}:
        yield "its receipt is that of other bytes"


def _bound(size: int | None) -> int | None:
    """Takes a number of bytes that a disk can have: records may say anything."""
    return size if size is not None and 0 <= size < _MOST_BYTES else None


def _name_recipe(recipe: Mapping[str, object]) -> str:
    """Names what the model was made by: the last part of a dotted name."""
    model = recipe.get("model")
    target = model.get("_target_", model.get("live")) if isinstance(model, Mapping) else model
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def _without(error: Exception, path: Path) -> str:
    """Says an error without the path, which the row names."""
    return str(error).replace(f"{path}", "it").replace("it is damaged", "damaged").rstrip(".")
