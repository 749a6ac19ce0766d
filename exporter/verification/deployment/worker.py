"""What runs in the fresh process: the artifact in its own runtime, without TensorFlow, Keras and the model's code."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.durations import measure_calls
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.deployment.runtimes.base import Runtime
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat

Reply = dict[str, Any]

# What an artifact has to do without.
_ABSENT = ("tensorflow", "keras")


def start_runtime() -> FreshProcess:
    """Starts the process that this module runs in, at the other side."""
    return FreshProcess("exporter.verification.deployment", has_home=False)


class RuntimeWorker:
    """The artifact as its runtime sees it.

    Each public method answers the request of its name; arguments and replies are plain data.
    """

    def __init__(self) -> None:
        self._runtime: Runtime | None = None

    def open(self, save_format: str, path: str, threads: int = 1) -> Reply:
        """Opens the artifact.

        Args:
            save_format: The name of its format.
            path: Where it is.
            threads: With how many it computes.

        Returns:
            What it takes and returns, and which of TensorFlow and Keras were imported for that.
        """
        chosen = FORMATS[save_format]
        assert isinstance(chosen, DeployedFormat)
        self._runtime = chosen.find_runtime()(Path(path), threads)
        endpoints = {name: asdict(endpoint) for name, endpoint in self._runtime.endpoints.items()}
        return {"endpoints": endpoints, "imported": [name for name in _ABSENT if name in sys.modules]}

    def ask(self, endpoint: str, batches: str, answers: str) -> Reply:
        """Asks an endpoint, batch by batch.

        Args:
            endpoint: Its name.
            batches: The file with the arrays `<batch>/<input>`.
            answers: The file to write, with the arrays `<batch>/<output>`.

        Returns:
            Nothing but that it was done.
        """
        runtime = self._get_runtime()
        found: dict[str, Array] = {}
        for number, batch in split_batches(read_arrays(Path(batches))).items():
            found |= {f"{number}/{name}": value for name, value in runtime.call(endpoint, batch).items()}
        write_arrays(Path(answers), found)
        return {}

    def measure(self, save_format: str, path: str, endpoint: str, batch: str, warm_up: int, runs: int) -> Reply:
        """Opens the artifact once more and asks one batch many times, with one thread.

        Args:
            save_format: See `open`.
            path: See `open`.
            endpoint: What is asked.
            batch: File with the arrays `0/<input>`.
            warm_up: Calls that are not counted.
            runs: Calls that are.

        Returns:
            The durations and the memory of `exporter.artifacts.records.Measurements`.
        """
        [inputs] = split_batches(read_arrays(Path(batch))).values()
        self._runtime = None

        def load() -> Runtime:
            self.open(save_format, path)
            return self._get_runtime()

        return measure_calls(load, lambda runtime: partial(runtime.call, endpoint, inputs), warm_up, runs)

    def _get_runtime(self) -> Runtime:
        if self._runtime is None:
            raise ValueError("nothing is open")
        return self._runtime


def split_batches(arrays: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Returns the arrays of each batch by their names, from arrays that are called `<batch>/<name>`."""
    batches: dict[str, dict[str, Array]] = {}
    for path, array in arrays.items():
        number, _, name = path.partition("/")
        batches.setdefault(number, {})[name] = array
    return batches
