"""The receipt: what was exported, from what, how it was proven, and how long it took.

Dates, durations and the host's name stand here and never inside the artifact, so that the same recipe
gives the same bytes.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from exporter._text import escape_line, write_json
from exporter.errors import ArtifactError
from exporter.saving.contents import Endpoint, Holding, LeftOut, Tensor

SCHEMA_VERSION = 1

_CHUNK_BYTES = 1 << 20


class Status(StrEnum):
    """How far an artifact got that was published."""

    PROVEN = "proven"  # a fresh process compared everything, and every check passed
    WRITTEN = "written"  # it was written, and at most loaded again


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of the artifact with the model.

    Attributes:
        name: What was compared, such as `predictions`.
        passed: Whether the artifact was the same.
        figure: The measured result in a few words, such as `bit-equal` or `largest difference 1.2e-07`.
        detail: What the figure was measured on, or where the difference is.
        difference: The largest absolute difference between two numbers; 0 where all are bit-equal, and None where
            there are no numbers to compare, or numbers of different shapes.
    """

    name: str
    passed: bool
    figure: str
    detail: str
    difference: float | None = field(default=None, compare=False)  # the figure says the same in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What the fresh process measured of the finished artifact.

    Attributes:
        reader: What loaded and called it: the endpoint of a SavedModel through `tf.saved_model.load`, or our
            `load_model` with one traced call.
        batch_size: Samples in the batch that was predicted.
        runs: Predictions that were measured.
        load_seconds: From the path to a model in memory; TensorFlow was imported before.
        first_seconds: The first prediction, with everything that is made only then.
        median_seconds: Of the predictions after the warm-up.
        p90_seconds: What 90 % of them took at most.
        p99_seconds: What 99 % of them took at most.
        memory_bytes: By how much the resident size of the process grew at most from then on: TensorFlow itself, which
            was there before, is not counted.
    """

    reader: str
    batch_size: int
    runs: int
    load_seconds: float
    first_seconds: float
    median_seconds: float
    p90_seconds: float
    p99_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of an artifact.

    Attributes:
        path: Relative to the artifact, with forward slashes; the artifact's own name when it is one file.
        size: Bytes; 0 for a symbolic link.
        sha256: Hexadecimal digest of the bytes; None for a symbolic link.
        link: Where a symbolic link points; None for a regular file.
    """

    path: str
    size: int
    sha256: str | None
    link: str | None


@dataclass(frozen=True, slots=True)
class Input:
    """One file that the recipe reads.

    Attributes:
        key: The dotted path in the recipe, such as `model.filepath`.
        path: What stands there.
        sha256: Of the file; of a directory, as `digest_files` takes it.
        size: Bytes.
    """

    key: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Repository:
    """The git repository that a recipe is in.

    Attributes:
        commit: The one that is checked out.
        dirty: Whether a file that git knows differs from it.
    """

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """What an export ran on.

    Attributes:
        processor: Its name.
        cores: How many the process may use.
        memory_bytes: Of the machine.
        system: The operating system and its release.
        gpus: Their names.
    """

    processor: str
    cores: int
    memory_bytes: int
    system: str
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        """Says it in a few words."""
        gpus = "".join(f", {gpu}" for gpu in self.gpus)
        memory = f"{self.memory_bytes / 2**30:.0f} GiB memory"
        return escape_line(f"{self.cores} cores of {self.processor}, {memory}{gpus}, {self.system}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the artifact's server, which was read again by what the endpoint declares.

    Attributes:
        endpoint: Which it asks.
        body: JSON, as TF Serving's REST interface takes it; None for a long one.
        file: Absolute path of the file that holds a long one; None for a short one.
    """

    endpoint: str
    body: str | None
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What loads an artifact beside its path.

    Attributes:
        imports: The modules to import before: they register the model's classes, or hold the `custom_objects`.
        custom_objects: Where the classes and functions are that are not registered, such as `layers.Gate`, by the name
            in the model's configuration.
        safe_mode: False where the artifact holds code of its maker, such as a Python lambda.
    """

    imports: tuple[str, ...] = ()
    custom_objects: dict[str, str] = field(default_factory=dict)
    safe_mode: bool = True

    def write_lines(self, filepath: str, reader: str = "exporter") -> list[str]:
        """Writes the lines of Python that load the artifact, in any process.

        Args:
            filepath: Of the artifact.
            reader: The module whose `load_model` is called: `exporter` or `keras.models`.
        """
        arguments = [repr(filepath)]
        if self.custom_objects:
            objects = ", ".join(f"{name!r}: {place}" for name, place in self.custom_objects.items())
            arguments.append(f"custom_objects={{{objects}}}")
        if not self.safe_mode:
            arguments.append("safe_mode=False")
        modules = dict.fromkeys((*self.imports, reader.partition(".")[0]))
        return [f"import {', '.join(modules)}", f"model = {reader}.load_model({', '.join(arguments)})"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Receipt:
    """Everything that is known about one finished export.

    Attributes:
        schema_version: Of this record's layout.
        status: Proven or only written.
        filepath: Absolute path of the artifact.
        format: `tf`, `h5` or `keras`.
        read: What the model was made from, a line each.
        recipe: The resolved recipe; what it takes from the environment stands as it says it, such as
            `${oc.env:NAME}`.
        inputs: The files that the recipe reads.
        repository: That of the recipe; None where there is none, or no git.
        versions: Of the software that took part, by name.
        files: Every file of the artifact, sorted by path.
        total_bytes: The sum of their sizes.
        signatures: The endpoints, by name; empty unless the format is `tf`.
        request: One to try a server with; None unless the format is `tf`, and where JSON cannot say the inputs.
        held: What the artifact holds.
        left_out: What it does not hold, and why.
        checks: Each comparison of the proof.
        seconds: Duration of each phase, by name, in order.
        measurements: What was measured of the artifact; None where nothing was.
        peak_memory_bytes: The largest resident size of the exporting process during the export, TensorFlow included.
        started: When the export began, ISO 8601 with a time zone.
        finished: When the artifact was at its path, ISO 8601 with a time zone.
        host: Name of the machine.
        machine: What it is.
        loading: What loads the artifact.
    """

    schema_version: int
    status: Status
    filepath: str
    format: str
    read: tuple[str, ...]
    recipe: dict[str, Any]
    inputs: tuple[Input, ...]
    repository: Repository | None
    versions: dict[str, str]
    files: tuple[FileRecord, ...]
    total_bytes: int
    signatures: dict[str, Endpoint]
    request: Request | None
    held: tuple[Holding, ...]
    left_out: tuple[LeftOut, ...]
    checks: tuple[Check, ...]
    seconds: dict[str, float]
    measurements: Measurements | None
    peak_memory_bytes: int
    started: str
    finished: str
    host: str
    machine: Machine
    loading: Loading = field(default_factory=Loading)  # former versions did not write it

    def __repr__(self) -> str:
        """Names the artifact in one line; all of it is in `to_json`."""
        return escape_line(f"<Receipt of {self.filepath}: {self.format}, {self.status}, {self.total_bytes} bytes>")

    def __str__(self) -> str:
        """Writes the summary that the command line prints."""
        from exporter._terminal import print_summary  # not above: it shows receipts
        from exporter.publishing import locate_receipt

        text = io.StringIO()
        print_summary(self, locate_receipt(self.filepath), text)
        return text.getvalue()

    def _repr_html_(self) -> str:
        """Writes the table that a notebook shows."""
        from exporter._receipt_table import format_receipt

        return format_receipt(self)

    def to_json(self) -> str:
        """Returns the receipt as indented JSON that ends with a newline."""
        return write_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text.

        Raises:
            ArtifactError: The text is no receipt, or one of a layout that this version cannot read.
        """
        try:
            fields = json.loads(text)
            version = fields["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"This is not a receipt: {error}. Expected the JSON that an export writes beside its artifact."
            ) from error
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"The receipt has schema_version {version!r}; this version of exporter reads {SCHEMA_VERSION}. "
                "Read it with the version of exporter that it names under `versions`."
            )
        try:
            fields["status"] = Status(fields["status"])
            fields["read"] = tuple(fields["read"])
            fields["inputs"] = tuple(Input(**each) for each in fields["inputs"])
            fields["repository"] = None if fields["repository"] is None else Repository(**fields["repository"])
            fields["machine"] = Machine(**{**fields["machine"], "gpus": tuple(fields["machine"]["gpus"])})
            fields["files"] = tuple(FileRecord(**record) for record in fields["files"])
            fields["signatures"] = {name: _read_endpoint(endpoint) for name, endpoint in fields["signatures"].items()}
            fields["request"] = None if fields["request"] is None else Request(**fields["request"])
            fields["held"] = tuple(Holding(**holding) for holding in fields["held"])
            fields["left_out"] = tuple(LeftOut(**left_out) for left_out in fields["left_out"])
            fields["checks"] = tuple(Check(**check) for check in fields["checks"])
            fields["measurements"] = Measurements(**fields["measurements"]) if fields["measurements"] else None
            if "loading" in fields:
                loading = fields["loading"]
                fields["loading"] = Loading(**{**loading, "imports": tuple(loading["imports"])})
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"The receipt is damaged: {error}. Export the model again to get a new one.") from error


def _read_endpoint(fields: Mapping[str, Any]) -> Endpoint:
    return Endpoint(inputs=_read_tensors(fields["inputs"]), outputs=_read_tensors(fields["outputs"]))


def _read_tensors(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(shape=None if tensor["shape"] is None else tuple(tensor["shape"]), dtype=tensor["dtype"])
        for name, tensor in tensors.items()
    }


def record_files(artifact: Path, name: str) -> tuple[FileRecord, ...]:
    """Lists every file of an artifact with its size and digest.

    The bytes are streamed, so memory does not grow with the files. A symbolic link is recorded as a link
    and not followed: its target is a file of the artifact and is listed once.

    Args:
        artifact: A file or a directory.
        name: Of the record, where the artifact is one file.

    Returns:
        A record per file, sorted by path.
    """
    if not artifact.is_dir():
        return (_record_file(artifact, name),)
    paths = sorted(path for path in artifact.rglob("*") if path.is_symlink() or path.is_file())
    return tuple(_record_file(path, path.relative_to(artifact).as_posix()) for path in paths)


def digest_files(files: Sequence[FileRecord]) -> str:
    """Returns one digest for a whole artifact: equal if and only if every file of it is.

    Args:
        files: What `record_files` found.

    Returns:
        The sha256 of the file where the artifact is one file; of a directory, the sha256 of a line per file, in the
        order of their paths: the file's sha256 or where the link points, two spaces, and its path.
    """
    if len(files) == 1 and files[0].sha256 is not None and "/" not in files[0].path:
        return files[0].sha256
    lines = "".join(f"{record.sha256 or record.link}  {record.path}\n" for record in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _record_file(path: Path, name: str) -> FileRecord:
    if path.is_symlink():
        return FileRecord(path=name, size=0, sha256=None, link=path.readlink().as_posix())
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(path=name, size=size, sha256=digest.hexdigest(), link=None)


def read_versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions of installed packages without importing them.

    Args:
        packages: The name to report -> the distributions' name, in the order to report them.

    Returns:
        The versions of those that are installed.
    """
    from importlib import metadata  # not above: checking a recipe needs the classes of this module alone

    versions: dict[str, str] = {}
    for name, distribution in packages.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return versions
