"""Turns a YAML recipe into a Keras model that is saved, proven to be the same model, and published.

Importing this package loads neither TensorFlow, Keras nor h5py: what needs them does when it is called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from exporter.config import ExportConfig
from exporter.errors import (
    ArgumentError,
    ArtifactError,
    ExporterError,
    ExportError,
    Fault,
    ForeignFileError,
    LockTimeoutError,
    MissingDependencyError,
    ModelError,
    NotAModelError,
    ProofError,
    RefusedExportError,
    RegressionError,
    SpaceError,
    TargetExistsError,
    UsageError,
)

if TYPE_CHECKING:
    from exporter.api import export
    from exporter.artifacts.receipt import Receipt
    from exporter.cli.composing import compose
    from exporter.saving.api import load_model, save_model
    from exporter.saving.legacy.parts.findings import LeftOutWarning

__all__ = [
    "ArgumentError",
    "ArtifactError",
    "ExportConfig",
    "ExportError",
    "ExporterError",
    "Fault",
    "ForeignFileError",
    "LeftOutWarning",
    "LockTimeoutError",
    "MissingDependencyError",
    "ModelError",
    "NotAModelError",
    "ProofError",
    "Receipt",
    "RefusedExportError",
    "RegressionError",
    "SpaceError",
    "TargetExistsError",
    "UsageError",
    "compose",
    "export",
    "load_model",
    "save_model",
]

_HOMES = {
    "LeftOutWarning": "exporter.saving.legacy.parts.findings",
    "Receipt": "exporter.artifacts.receipt",
    "compose": "exporter.cli.composing",
    "export": "exporter.api",
    "load_model": "exporter.saving.api",
    "save_model": "exporter.saving.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
