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
    from exporter.api import check, diff, export, inspect, rerun, verify, versions
    from exporter.artifacts.inspection import Inspection
    from exporter.artifacts.inspection.comparison import Comparison, SignatureComparison
    from exporter.artifacts.inspection.showing.versions_page import Versions
    from exporter.artifacts.receipt import Receipt
    from exporter.cli.commands.verifying import Verification
    from exporter.cli.composing import compose
    from exporter.exporting.dry_run.records import Forecast
    from exporter.saving.api import load_model, save_model
    from exporter.saving.legacy.parts.findings import LeftOutWarning

__all__ = [
    "ArgumentError",
    "ArtifactError",
    "Comparison",
    "ExportConfig",
    "ExportError",
    "ExporterError",
    "Fault",
    "Forecast",
    "ForeignFileError",
    "Inspection",
    "LeftOutWarning",
    "LockTimeoutError",
    "MissingDependencyError",
    "ModelError",
    "NotAModelError",
    "ProofError",
    "Receipt",
    "RefusedExportError",
    "RegressionError",
    "SignatureComparison",
    "SpaceError",
    "TargetExistsError",
    "UsageError",
    "Verification",
    "Versions",
    "check",
    "compose",
    "diff",
    "export",
    "inspect",
    "load_model",
    "rerun",
    "save_model",
    "verify",
    "versions",
]

_HOMES = {
    "Comparison": "exporter.artifacts.inspection.comparison",
    "Forecast": "exporter.exporting.dry_run.records",
    "Inspection": "exporter.artifacts.inspection",
    "LeftOutWarning": "exporter.saving.legacy.parts.findings",
    "Receipt": "exporter.artifacts.receipt",
    "SignatureComparison": "exporter.artifacts.inspection.comparison",
    "Verification": "exporter.cli.commands.verifying",
    "Versions": "exporter.artifacts.inspection.showing.versions_page",
    "check": "exporter.api",
    "compose": "exporter.cli.composing",
    "diff": "exporter.api",
    "export": "exporter.api",
    "inspect": "exporter.api",
    "load_model": "exporter.saving.api",
    "rerun": "exporter.api",
    "save_model": "exporter.saving.api",
    "verify": "exporter.api",
    "versions": "exporter.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
