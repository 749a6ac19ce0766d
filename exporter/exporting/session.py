"""What the exports of one process share: the models that were built, and the processes that convert and prove.

Sharing changes no artifact: a save and its proof leave a model as it was.
"""

import atexit
import gc
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from exporter.models.building import Built, build
from exporter.processes.fresh_process import FreshProcess, ProcessEndedError, read_surroundings

# A function that starts a process; the same one gives the same process.
Start = Callable[[], FreshProcess]

# A sweep over seeds or widths and formats may come back to a model; each of them takes its memory.
_KEPT_MODELS = 4


class WarmProcesses:
    """Processes that wait, with what they have imported and nothing else, for the next session of this process.

    What an export leaves behind is a child of such a process, and ends with it. They end with this process, however
    that ends, and a fork of it has none of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Start, FreshProcess] = {}
        self._surroundings: object = None

    def take(self, start: Start) -> FreshProcess:
        """Takes one that waits, or starts one."""
        with self._lock:
            if (
                self._surroundings != read_surroundings()
            ):  # a new one would import from elsewhere, or be told other things
                self._close()
            kept = self._waiting.pop(start, None)
        if kept is not None and kept.is_ready():
            return kept
        if kept is not None:
            kept.close()
        return start()

    def give_back(self, start: Start, process: FreshProcess) -> None:
        """Lets a process wait that is not used any more; one is enough."""
        try:
            process.end()
        except ProcessEndedError:
            process.close()
            return
        with self._lock:
            if self._surroundings is None:
                atexit.register(self.close)
                os.register_at_fork(after_in_child=self._forget)
            self._surroundings = read_surroundings()
            if start not in self._waiting and process.is_ready():
                self._waiting[start] = process
                return
        process.close()

    def close(self) -> None:
        """Ends those that wait."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        while self._waiting:
            self._waiting.popitem()[1].close()

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        for process in self._waiting.values():
            process.abandon()
        self._waiting.clear()


WARM_PROCESSES = WarmProcesses()


class ExportSession:
    """Keeps them from one export to the next; use it as a context manager."""

    def __init__(self, *, is_warm: bool = False) -> None:
        """Begins.

        Args:
            is_warm: Whether its processes come from an earlier session, and wait for a later one.
        """
        self._is_warm = is_warm
        self._processes: dict[Start, FreshProcess] = {}
        self._models: OrderedDict[str, tuple[Built, str]] = OrderedDict()

    def open_process(self, start: Start) -> FreshProcess:
        """Returns a process: the one of an export before, where that left it ready.

        Args:
            start: Starts one.
        """
        kept = self._processes.get(start)
        if kept is not None and not kept.is_ready():
            self._processes.pop(start).close()
        if start not in self._processes:
            self._processes[start] = WARM_PROCESSES.take(start) if self._is_warm else start()
        return self._processes[start]

    def build(self, model: object, seed: int, note: Callable[[str], None]) -> tuple[Built, str]:
        """Builds a model, or returns the one that was built from the same configuration, seed and files.

        Args:
            model: See `exporter.models.building.build`. A live model is returned as it is.
            seed: See there.
            note: Is told about the progress.

        Returns:
            The model with its facts, and a line that says what was read.

        Raises:
            ExporterError: See `exporter.models.building.build`.
        """
        lines = [""]

        def report(line: str) -> None:
            lines.append(line)
            note(line)

        if not isinstance(model, Mapping):
            return build(model, seed, report), lines[-1]
        key = json.dumps([model, seed, _stat_files(model)], sort_keys=True, default=repr)
        if key in self._models:
            self._models.move_to_end(key)
            note(self._models[key][1])
            return self._models[key]
        while len(self._models) >= _KEPT_MODELS:
            self._models.popitem(last=False)
        gc.collect()  # a model holds itself in cycles
        self._models[key] = (build(model, seed, report), lines[-1])
        return self._models[key]

    def close(self) -> None:
        """Ends the processes and lets go of the models."""
        self._models.clear()
        while self._processes:
            start, process = self._processes.popitem()
            if self._is_warm:
                WARM_PROCESSES.give_back(start, process)
            else:
                process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _stat_files(model: Mapping[str, object]) -> list[tuple[str, int, int, int]]:
    """Tells whether a file that a model is read from is still the same."""
    found = []
    for value in model.values():
        if isinstance(value, str) and os.path.exists(value):
            status = os.stat(value)
            found.append((value, status.st_ino, status.st_size, status.st_mtime_ns))
    return found
