"""What the exports of one process share: the models that were built, and the process in which artifacts are proven.

Sharing changes no artifact: a save and its proof leave a model as it was.
"""

import gc
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from exporter.models.building import build_model
from exporter.processes.fresh_process import FreshProcess

# A sweep over seeds or widths and formats may come back to a model; each of them takes its memory.
_KEPT_MODELS = 4


class ExportSession:
    """Keeps both from one export to the next; use it as a context manager."""

    def __init__(self) -> None:
        self._process: FreshProcess | None = None
        self._models: OrderedDict[str, tuple[Any, str]] = OrderedDict()

    def open_process(self) -> FreshProcess:
        """Returns the process for a proof: the one of the export before, where that left it ready."""
        if self._process is not None and not self._process.is_ready():
            self._process.close()
            self._process = None
        if self._process is None:
            self._process = FreshProcess("exporter.verification")
        return self._process

    def build(self, model: Any, seed: int, note: Callable[[str], None]) -> tuple[Any, str]:
        """Builds a model, or returns the one that was built from the same configuration, seed and files.

        Args:
            model: See `exporter.models.building.build_model`. A live model is returned as it is.
            seed: See there.
            note: Is told about the progress.

        Returns:
            The model, and a line that says what was read.

        Raises:
            ExporterError: See `exporter.models.building.build_model`.
        """
        lines = [""]

        def report(line: str) -> None:
            lines.append(line)
            note(line)

        if not isinstance(model, Mapping):
            return build_model(model, seed, report), lines[-1]
        key = json.dumps([model, seed, _stat_files(model)], sort_keys=True, default=repr)
        if key in self._models:
            self._models.move_to_end(key)
            note(self._models[key][1])
            return self._models[key]
        while len(self._models) >= _KEPT_MODELS:
            self._models.popitem(last=False)
        gc.collect()  # a model holds itself in cycles
        self._models[key] = (build_model(model, seed, report), lines[-1])
        return self._models[key]

    def close(self) -> None:
        """Ends the process and lets go of the models."""
        self._models.clear()
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _stat_files(model: Mapping[str, Any]) -> list[tuple[str, int, int, int]]:
    """Tells whether a file that a model is read from is still the same."""
    found = []
    for value in model.values():
        if isinstance(value, str) and os.path.exists(value):
            status = os.stat(value)
            found.append((value, status.st_ino, status.st_size, status.st_mtime_ns))
    return found
