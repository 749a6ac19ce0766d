"""The verification of an artifact whose model is gone: two processes open it, and each must answer the same."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.artifacts.records import Check, CheckKind
from exporter.errors import ArtifactError
from exporter.processes.arrays import Array, read_arrays, write_arrays
from exporter.processes.fresh_process import FreshProcess, count_bytes, wait_seconds
from exporter.saving.contents import Endpoint, Tensor
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.layout.records import read_record
from exporter.verification.deployment.declared import compare_endpoints
from exporter.verification.deployment.worker import split_batches, start_runtime

_BATCH = 2


def reverify_deployed(path: Path, save_format: DeployedFormat) -> tuple[Check, ...]:
    """Opens an artifact in two processes with nothing but its runtime, and compares what they answer.

    Args:
        path: The artifact.
        save_format: Its format.

    Returns:
        Every comparison, also those that failed.

    Raises:
        ArtifactError: It cannot be opened, or says nothing of itself.
    """
    document = save_format.find_runtime().read_file(path).document
    if document is None:
        raise ArtifactError(f"{path} was not exported by `exporter`, and it does not say what it should compute.")
    answers = [_ask_all(path, save_format, document.endpoints) for _ in range(2)]
    endpoints = answers[0][0]
    load = Check("load", True, "opened", "without TensorFlow and Keras", kind=CheckKind.FACTS)
    checks = [load, compare_endpoints(document.endpoints, endpoints)]
    for name in endpoints if checks[-1].passed else ():
        first, second = (found[name] for _, found in answers)
        different = [output for output in first if first[output].tobytes() != second[output].tobytes()]
        figure = "bit-equal" if not different else f"{', '.join(different)} differ"
        checks.append(Check(f"outputs of {name}", not different, figure, "two processes", kind=CheckKind.OUTPUTS))
    return tuple(checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArtifact:
    """An artifact that its runtime has opened in a process of its own.

    Attributes:
        path: Where it is.
        endpoints: What it takes and returns, as its runtime says.
        process: The process.
        exchange: A folder for questions and answers.
    """

    path: Path
    endpoints: Mapping[str, Endpoint]
    process: FreshProcess
    exchange: Path

    def ask(self, endpoint: str, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Asks an endpoint.

        Raises:
            ArtifactError: It cannot answer.
        """
        question, answer = self.exchange / "question", self.exchange / "answer"
        write_arrays(question, {f"0/{name}": array for name, array in batch.items()})
        seconds = wait_seconds(count_bytes(self.path))
        _receive(
            self.process.ask("ask", seconds, endpoint=endpoint, batches=str(question), answers=str(answer)), self.path
        )
        return split_batches(read_arrays(answer))["0"]


@contextmanager
def opened(path: Path, save_format: DeployedFormat) -> Iterator[OpenArtifact]:
    """Opens an artifact with its runtime, in a process of its own.

    Raises:
        ArtifactError: It cannot be opened.
    """
    with start_runtime() as process, tempfile.TemporaryDirectory(prefix="exporter-verify-") as exchange:
        process.begin()
        seconds = wait_seconds(count_bytes(path))
        reply = _receive(process.ask("open", seconds, save_format=save_format.name, path=str(path.absolute())), path)
        endpoints = read_record(dict[str, Endpoint], reply["endpoints"])
        yield OpenArtifact(path=path, endpoints=endpoints, process=process, exchange=Path(exchange))


def make_batch(endpoint: Endpoint) -> dict[str, Array]:
    """Makes what an endpoint can be asked."""
    return {name: _make(tensor) for name, tensor in endpoint.inputs.items()}


def _ask_all(
    path: Path, save_format: DeployedFormat, declared: Mapping[str, Endpoint]
) -> tuple[Mapping[str, Endpoint], dict[str, dict[str, Array]]]:
    with opened(path, save_format) as artifact:
        names = sorted(artifact.endpoints.keys() & declared.keys())
        return artifact.endpoints, {name: artifact.ask(name, make_batch(declared[name])) for name in names}


def _receive(reply: dict[str, Any], path: Path) -> dict[str, Any]:
    if "error" in reply:
        raise ArtifactError(f"{path} cannot be run: {reply['error']}. It may be damaged or incomplete.")
    return reply


def _make(tensor: Tensor) -> Array:
    """Makes an input of small numbers, which are in every vocabulary."""
    shape = tuple(_BATCH if size is None else size for size in tensor.shape or ())
    if tensor.dtype == "string":
        return np.full(shape, b"", object)
    values = np.random.default_rng(0).uniform(0, 1, shape)
    return np.asarray(values.astype(tensor.dtype))
