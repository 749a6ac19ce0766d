"""The real data of an export: what an artifact is calibrated with, and what it is judged on."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.config import ExportConfig
from exporter.errors import Fault, UsageError
from exporter.models.endpoints.building import BuiltEndpoint
from exporter.saving.deployment.conversions import CalibrationData
from exporter.sources._registry import find_data
from exporter.sources._stored import find_file
from exporter.verification.deployment.quality.samples import (
    Samples,
    Served,
    count_shared,
    draw_samples,
    limit,
    read_samples,
    take_split,
)

_KEY = "calibration.data"


@dataclass(frozen=True, slots=True)
class RealData:
    """What is known of the data that a model is made for.

    Attributes:
        calibration: What an artifact is calibrated with; None where it is not.
        labelled: What it is judged on; None where there is nothing.
    """

    calibration: CalibrationData | None
    labelled: Samples | None


def read_data(config: ExportConfig, endpoints: Mapping[str, BuiltEndpoint]) -> RealData:
    """Reads what an export needs to know of real data.

    Args:
        config: The export, checked.
        endpoints: What it exports.

    Raises:
        UsageError: A file cannot be read or does not fit, an endpoint lacks data, or both parts share samples.
    """
    labelled = read_labelled(config, endpoints)
    if config.quantize is None or not config.quantize.is_calibrated:
        return RealData(None, labelled)
    samples = _read_calibration(config, endpoints)
    if samples.missing:
        hint = "add the arrays, in the range that the endpoint takes"
        raise UsageError([Fault(_KEY, f"{why}, for {name!r}; {hint}") for name, why in samples.missing.items()])
    if labelled is not None and (count := count_shared(samples, labelled)):
        remedy = "judge it on samples that it was not calibrated with: set calibration.data or verify.data"
        shared = f"{count} of its samples are also in the data that the artifact is judged on ({labelled.origin})"
        raise UsageError([Fault(_KEY, f"{shared}; {remedy}")])
    samples = limit(samples, config.calibration.samples)
    return RealData(CalibrationData(origin=samples.origin, samples=samples.inputs), labelled)


def read_labelled(config: ExportConfig, endpoints: Mapping[str, Served]) -> Samples | None:
    """Reads what an artifact is judged on: the recipe's data, or those of the source; None where there are none.

    Args:
        config: The export, checked.
        endpoints: What it exports.

    Raises:
        UsageError: The file cannot be read, or does not fit.
    """
    if config.verify.data is not None:
        return read_samples("verify.data", find_file(config.verify.data, "verify.data"), endpoints)
    read = find_data(config.model)
    return None if read is None else take_split(read()[1], endpoints)


def _read_calibration(config: ExportConfig, endpoints: Mapping[str, BuiltEndpoint]) -> Samples:
    data = config.calibration.data
    if isinstance(data, str):
        return read_samples(_KEY, find_file(data, _KEY), endpoints)
    if data is not None:
        return draw_samples(_KEY, data, config.calibration.samples, endpoints)
    read = find_data(config.model)
    assert read is not None  # `check_limits` has refused that
    return take_split(read()[0], endpoints)
