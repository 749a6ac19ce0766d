"""Load time, latency and memory of an artifact in its own runtime."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from exporter.artifacts.records import Measurements
from exporter.config import MeasureConfig
from exporter.errors import ExportError
from exporter.processes.arrays import Array, write_arrays
from exporter.processes.fresh_process import FreshProcess, count_bytes, wait_seconds
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.formats.deployed import DeployedFormat
from exporter.verification.comparing.asked import EndpointInputs, VerificationInputs


def measure(
    process: FreshProcess,
    save_format: DeployedFormat,
    staged: Path,
    inputs: VerificationInputs,
    settings: MeasureConfig,
) -> Measurements | None:
    """Lets the fresh process open the artifact once more and ask one batch many times, with one thread.

    Args:
        process: The fresh process; it has answered everything that it was asked.
        save_format: Of the artifact.
        staged: The artifact.
        inputs: What its endpoints are asked.
        settings: How often, and with how many samples.

    Returns:
        What was measured of `serving_default`, or of the first endpoint; None where no example of its inputs is known.

    Raises:
        ExportError: The process could not open or ask it, died, or did not answer.
    """
    endpoints = sorted(
        (each for each in inputs.endpoints if each.batches), key=lambda each: each.name != SERVING_DEFAULT
    )
    if not endpoints:
        return None
    endpoint = endpoints[0]
    batch = _make_batch(endpoint, settings.batch_size)
    process.begin()
    with tempfile.TemporaryDirectory(prefix="exporter-measure-") as folder:
        file = Path(folder) / "batch"
        write_arrays(file, {f"0/{name}": array for name, array in batch.items()})
        figures = ask_figures(
            process,
            staged,
            save_format=save_format.name,
            endpoint=endpoint.name,
            batch=str(file),
            warm_up=settings.warm_up,
            runs=settings.runs,
        )
    size = len(next(iter(batch.values())))
    return Measurements(
        reader=f"{save_format.runtime_name}, {endpoint.name}, 1 thread", batch_size=size, runs=settings.runs, **figures
    )


def ask_figures(process: FreshProcess, staged: Path, **arguments: object) -> dict[str, Any]:
    """Asks the fresh process to measure an artifact.

    Args:
        process: It has answered everything that it was asked.
        staged: The artifact.
        **arguments: What its worker takes to measure, beside the path.

    Returns:
        The durations and the memory of `exporter.artifacts.records.Measurements`.

    Raises:
        ExportError: It could not be measured, or the process died, or did not answer.
    """
    seconds = wait_seconds(count_bytes(staged))
    reply = process.ask("measure", seconds, path=str(staged.absolute()), **arguments)
    if "error" in reply:
        raise ExportError(
            f"The artifact could not be measured: {reply['error']}. Nothing was published. "
            "Export it without measuring: measure=never."
        )
    return reply


def _make_batch(endpoint: EndpointInputs, size: int) -> dict[str, Array]:
    """Takes the samples of a batch as often as it needs, where the endpoint takes any number of them."""
    made = {}
    for leaf, array in zip(endpoint.inputs.leaves, endpoint.batches[-1], strict=True):
        is_free = bool(leaf.shape) and leaf.shape[0] is None
        made[leaf.name] = np.take(array, np.arange(size) % len(array), axis=0) if is_free else array
    return made
