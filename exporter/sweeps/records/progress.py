"""What a running job is doing: a small file in its directory that the sweep's display reads, wherever the job runs."""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.errors import ArtifactError
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.storage.own_files import open_own, read_bytes, replace_bytes
from exporter.sweeps.records.results import is_moment

_FILE = "progress.json"
_SECONDS_BETWEEN_NOTES = 0.5
_SECONDS_BETWEEN_BEATS = 2.0
_LONGEST = 100_000  # bytes of the file; its note may hold names of anything


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come.

    Attributes:
        phase: What it is doing, such as `write the artifact`.
        note: How far that has come, such as `epoch 3 of 12`.
        started: When the job began, ISO 8601 with a time zone.
        host: The machine that runs it.
        process: The number of the process that exports, on that machine.
    """

    phase: str
    note: str
    started: str
    host: str
    process: int

    @property
    def seconds(self) -> float:
        """How long the job runs already; none where another machine's clock is ahead of this one's."""
        return max((datetime.now(UTC) - datetime.fromisoformat(self.started)).total_seconds(), 0.0)


class ProgressWriter:
    """Tells about an export by a file: a `Reporter` for a process that has no terminal.

    Use it as a context manager: inside it the file is touched again and again, as a heartbeat that is seen from
    other machines.
    """

    def __init__(self, directory: Path) -> None:
        """Writes the first state.

        Args:
            directory: Of the job.
        """
        self._file = directory / _FILE
        self.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._phase = ""
        self._written = 0.0
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="exporter-heartbeat", daemon=True)
        self._write("")

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._heart.join()

    def _beat(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_BEATS):
            with suppress(OSError):
                descriptor = open_own(self._file, os.O_WRONLY)
                try:
                    os.utime(descriptor)
                finally:
                    os.close(descriptor)

    def _write(self, note: str) -> None:
        self._written = time.monotonic()
        progress = Progress(self._phase, note, self.started, platform.node(), os.getpid())
        # It only serves the display: a full disk is found, and named, by the export itself.
        with suppress(OSError):
            replace_bytes(self._file, json.dumps(asdict(progress)).encode())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Writes the phase when it begins."""
        self._phase = name
        self._write("")
        yield

    def note(self, text: str, share: float | None = None) -> None:
        """Writes the line, unless one was written a moment ago."""
        if time.monotonic() - self._written > _SECONDS_BETWEEN_NOTES:
            self._write(text)

    def tell_wait(self, target: Path | str, holder: str) -> None:
        """Writes the line."""
        self._write(f"waits for {holder}")


def read_progress(directory: Path) -> Progress | None:
    """Reads how far a job has come; None where it has not begun."""
    try:
        content = read_bytes(directory / _FILE, _LONGEST)
        progress = read_record(Progress, parse_json(content, "The progress"), "the progress")
    except (OSError, ArtifactError, RecordError):
        return None
    return progress if is_moment(progress.started) else None


def find_heartbeat(directory: Path) -> float | None:
    """Returns how many seconds ago a job gave its last heartbeat; None where it has not begun."""
    try:
        return max(time.time() - (directory / _FILE).stat().st_mtime, 0.0)
    except OSError:
        return None


def remove_progress(directory: Path) -> None:
    """Forgets what an earlier attempt at the job has told."""
    (directory / _FILE).unlink(missing_ok=True)
