"""What one more check takes: a module, and a line in `CHECKS`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import exporter
from exporter.verification import checks

PACKAGE = Path(exporter.__file__).parent

MODULE = '''
"""Whether both models have the same number of layers."""

import os
from collections.abc import Iterator
from typing import Any

from exporter.artifacts.records import Check
from exporter.saving.contents import Omission
from exporter.verification.comparing.base import Answer, Ask, CheckType, Comparison, Message
from exporter.verification.comparing.reference import Reference


def answer(model: Any, question: Message) -> Message:
    return Message({"layers": len(model.layers), "process": os.getpid()})


class _LayerCount(Comparison):
    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def ask(self) -> Message:
        return Message()

    def compare(self, answer: Answer, ask: Ask) -> Iterator[Check | Omission]:
        ours, theirs = len(self._reference.model.layers), answer.facts["layers"]
        place = "here" if answer.facts["process"] == os.getpid() else "in another process"
        yield Check("layer count", ours == theirs, f"{theirs} layers", f"counted {place}")


CHECK = CheckType(name="layer count", plan=lambda reference: [_LayerCount(reference)], answer=answer)
'''

LAST_LINE = '    "answers.stock_keras",\n'
LINE = '    "layer_count",\n'

SCRIPT = """
import sys
import keras
import exporter
from exporter.artifacts.summary import print_summary

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU(), keras.layers.Dense(1)])
print_summary(exporter.export(model, sys.argv[1]), "receipt.json", verbose=True)
"""


def list_modules() -> set[str]:
    folder = Path(checks.__file__).parent
    files = [file for file in folder.rglob("*.py") if file.name != "__init__.py"]
    return {".".join(file.relative_to(folder).with_suffix("").parts) for file in files}


def test_every_check_has_a_line() -> None:
    assert sorted(checks.CHECKS) == sorted(list_modules())


def test_every_check_has_a_name_of_its_own() -> None:
    names = [check.name for check in checks.load_checks()]
    assert len(set(names)) == len(names) == len(checks.CHECKS)


@pytest.fixture(scope="module")
def package_with_one_more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package, to which one module and one line were added."""
    folder = tmp_path_factory.mktemp("one-more")
    shutil.copytree(PACKAGE, folder / "exporter", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conf", "recipes"):
        (folder / name).symlink_to(PACKAGE.parent / name)
    room = folder / "exporter" / "verification" / "checks"
    (room / "layer_count.py").write_text(MODULE)
    text = (room / "__init__.py").read_text()
    assert text.count(LAST_LINE) == 1
    (room / "__init__.py").write_text(text.replace(LAST_LINE, LAST_LINE + LINE))
    return folder


def test_one_more_check_is_a_module_and_a_line(package_with_one_more: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.keras"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(target)],
        cwd=package_with_one_more,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package_with_one_more), os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    receipt = json.loads(target.with_name("model.keras.receipt.json").read_text())
    last = receipt["checks"][-1]
    assert (last["name"], last["passed"], last["figure"], last["detail"]) == (
        "layer count",
        True,
        "3 layers",
        "counted in another process",
    )
    assert re.search(r"^ +layer count +✓ 3 layers +counted in another process$", done.stdout, re.MULTILINE)
