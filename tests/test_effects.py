"""Importing the package, and composing a recipe, changes nothing in the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# An application of somebody else, which composes a recipe of ours before and after Hydra has begun it.
APPLICATION = """
import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

import exporter
import exporter.cli.main

assert exporter.compose("digits").save_format == "tf"


@hydra.main(version_base=None, config_path=None)
def run(config):
    launcher = HydraConfig.get().launcher._target_.rpartition(".")[2]
    assert exporter.compose("digits", [f"seed={config.number}"]).seed == config.number
    is_elsewhere = os.getpid() != int(os.environ["PARENT"])
    Path(f"{config.number}.txt").write_text(f"{launcher} {HydraConfig.get().job.name} {is_elsewhere}")


if __name__ == "__main__":
    os.environ.setdefault("PARENT", str(os.getpid()))
    run()
"""


def run(arguments: list[str], directory: Path) -> str:
    # What TensorFlow says in C++ is no failure.
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_every_module_and_composing_change_nothing_in_the_process(tmp_path: Path) -> None:
    assert run([str(TESTS / "process_picture.py")], tmp_path) == ""


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_an_application_of_somebody_else_keeps_its_launchers(launcher: str, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    run(["application.py", "-m", f"hydra/launcher={launcher}", "+number=1,2"], tmp_path)
    expected = {"basic": "BasicLauncher application False", "joblib": "JoblibLauncher application True"}[launcher]
    assert [(tmp_path / f"{number}.txt").read_text() for number in (1, 2)] == [expected] * 2
