"""What an import loads."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "exporter",
        "exporter.cli.main",
        "exporter.exporting.job",
        "exporter.saving.api",
        "exporter.saving.formats",
        "exporter.sources",
        "exporter.exporting.reporting",
        "exporter.sweeps.sweep",
        "exporter.sweeps.worker",
        "exporter.artifacts.inspection",
        "exporter.cli.commands",
    ],
)
def test_an_import_loads_neither_tensorflow_nor_keras_nor_h5py(
    module: str, blocked_environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], env=blocked_environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
