"""Real models through the installed command, in every format, from a wheel.

Each source is one sweep over the formats, in a directory that is not the checkout, in a virtual environment into which
the package was installed as a user installs it. All other tests run from an editable install.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("mobilenet", "stock_h5")
FORMATS = ("tf", "h5", "keras")

_MAKE_STOCK_FILES = """
import keras
from exporter.sources import digits
keras.utils.set_random_seed(0)
model = digits(epochs=2)
model.save("stock.h5")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the package installed; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("install")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    known = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(known) + "\n")
    # From the tests' environment comes everything but the package itself.
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet", "--disable-pip-version-check"]
    subprocess.run([interpreter, "-m", "pip", "install", *options, str(ROOT)], check=True)
    return interpreter


@pytest.fixture(scope="module")
def stock_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `stock.h5`, which Keras itself wrote."""
    folder = tmp_path_factory.mktemp("stock")
    subprocess.run([sys.executable, "-c", _MAKE_STOCK_FILES], cwd=folder, check=True, capture_output=True)
    return folder


def _run(interpreter: Path, arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [interpreter.with_name("exporter"), *arguments],
        cwd=directory,
        env={**os.environ, "PATH": f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )


def _find_arguments(source: str, stock_files: Path) -> list[str]:
    match source:
        case "mobilenet":
            return [
                "model=application",
                "model.name=MobileNetV2",
                "model.input_shape=[96,96,3]",
                "model.classes=10",
            ]
        case _:
            return ["model=file", f"model.filepath={stock_files / 'stock.h5'}"]


@pytest.mark.xdist_group("end_to_end")
@pytest.mark.parametrize("source", SOURCES)
def test_every_format_is_proven(python: Path, source: str, stock_files: Path, tmp_path: Path) -> None:
    arguments = _find_arguments(source, stock_files)
    target = 'filepath="out/model${exporter.suffix:${save_format}}"'
    done = _run(python, ["-m", f"save_format={','.join(FORMATS)}", target, *arguments], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]

    out = tmp_path / "out"
    receipts = [json.loads(path.read_text()) for path in out.glob("*.receipt.json")]
    assert {receipt["format"] for receipt in receipts} == set(FORMATS)
    for receipt in receipts:
        _check_receipt(receipt)


def _check_receipt(receipt: dict[str, Any]) -> None:
    assert receipt["status"] == "proven"
    checks = {check["name"]: check for check in receipt["checks"]}
    assert {"predictions", "weights", "training step", "stock Keras"} <= set(checks)
    assert all(check["passed"] for check in checks.values())
    artifact = Path(receipt["filepath"])
    folder = artifact if artifact.is_dir() else artifact.parent
    files = [file for file in receipt["files"] if not (folder / file["path"]).is_symlink()]
    assert receipt["total_bytes"] == sum((folder / file["path"]).stat().st_size for file in files)
    for file in files:
        assert file["sha256"] == hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest()
