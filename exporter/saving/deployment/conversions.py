"""What a converter is asked, in words that go from one process to another."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from exporter.processes.arrays import Array
from exporter.processes.collector import imports_set_aside
from exporter.processes.fresh_process import answer_in_children
from exporter.saving.contents import Endpoint
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.layout.records import read_record


class RefusedError(Exception):
    """A converter cannot hold what it was given; the text says what, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationData:
    """Data of the kind that endpoints will be asked.

    Attributes:
        origin: Where it is from, in a few words.
        samples: For each endpoint an array per input, by name, with a sample per row.
    """

    origin: str
    samples: Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One conversion.

    Attributes:
        saved_model: A SavedModel with nothing but the endpoints.
        endpoints: What they take and return, by name.
        target: What to write: a file, or a directory that is not there yet.
        document: The text to keep inside under `documents.KEY`.
        quantize: How it is quantised; None for not at all.
        calibration: For each endpoint the file with samples of its inputs, by name and one sample per row, as
            `exporter.processes.arrays` writes them; empty unless `quantize` needs data.
    """

    saved_model: Path
    endpoints: Mapping[str, Endpoint]
    target: Path
    document: str
    quantize: Quantize | None = None
    calibration: Mapping[str, Path] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        calibration = {name: str(path) for name, path in self.calibration.items()}
        places = {"saved_model": str(self.saved_model), "target": str(self.target), "calibration": calibration}
        return {**asdict(self), **places}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "Conversion":
        """Reads what `to_json` returned."""
        plain = read_record(_Fields, fields)
        return Conversion(
            saved_model=Path(plain.saved_model),
            endpoints=plain.endpoints,
            target=Path(plain.target),
            document=plain.document,
            quantize=plain.quantize,
            calibration={name: Path(path) for name, path in plain.calibration.items()},
        )


@dataclass(frozen=True, slots=True)
class _Fields:
    saved_model: str
    endpoints: dict[str, Endpoint]
    target: str
    document: str
    quantize: Quantize | None
    calibration: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What came of a conversion, beside what was written.

    Attributes:
        remarks: What is not as it was asked for, or as one would expect it, a sentence each: they stand in the receipt.
    """

    remarks: tuple[str, ...] = ()


# Writes what is asked, or raises `RefusedError`.
Convert = Callable[[Conversion], Converted]


def serve(convert: Convert, *modules: Callable[[], object]) -> None:
    """Answers conversions, each in a child of this process that knows of no other.

    Args:
        convert: Of one format.
        *modules: Import what is slow to import, and what a fork does not harm.
    """
    # TensorFlow imports Keras where it finds it, for as long as it takes itself; who reads a SavedModel needs none.
    sys.modules["keras"] = None  # type: ignore[assignment]
    with imports_set_aside():
        for load in modules:
            load()
    answer_in_children(lambda: _Service(convert))


class _Service:
    """What a child answers."""

    def __init__(self, convert: Convert) -> None:
        self._convert = convert

    def convert(self, **fields: Any) -> dict[str, Any]:
        """Converts, and returns the remarks; or why that is refused."""
        try:
            return asdict(self._convert(Conversion.from_json(fields)))
        except RefusedError as error:
            return {"refused": str(error)}
