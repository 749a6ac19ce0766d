"""Keras's own tests of saving and loading, as its wheel ships them, run on our core.

Each module of them runs in a process of its own, where `peers.plugin` has put our core behind Keras's functions.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from peers.differences import DIFFERENCES, DIFFERENCES_AS_SAVED_MODEL, EXPORT, MODULES

# Those that save to a file of Keras's, where a SavedModel can stand in.
WHOLE_MODEL_MODULES = [module for module in MODULES if module != EXPORT]

# Keras's tests warn as they please; what our own code causes is an error here as everywhere.
_SETTINGS = """
[pytest]
filterwarnings =
    error:::exporter[.]
    ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test of Keras's ended.

    Attributes:
        name: `module::Class::test`.
        outcome: `passed`, `failed` or `skipped`.
        text: The failure, or why it was skipped.
        saves: How often it came to `exporter.save_model`.
        loads: How often it came to `exporter.load_model`.
    """

    name: str
    outcome: str = "passed"
    text: str = ""
    saves: int = 0
    loads: int = 0

    @property
    def holds(self) -> bool:
        """Whether it passed, and what passed was our core."""
        return self.outcome == "passed" and self.saves + self.loads > 0

    def describe(self) -> str:
        """Says why it does not hold."""
        if self.outcome == "passed":
            return "it passed without a call of our core"
        return f"it {self.outcome}: {self.text}"


def run_tests_of_keras(modules: Sequence[str], folder: Path, *options: str) -> list[Outcome]:
    settings, outcomes = folder / "pytest.ini", folder / "outcomes.json"
    settings.write_text(_SETTINGS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tests, checkout = Path(__file__).parents[1], Path(__file__).parents[2]
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(tests), str(checkout), environment["PYTHONPATH"]]),
        "TMPDIR": str(folder),
    }
    arguments = ["-c", str(settings), "-p", "peers.plugin", "-p", "no:xdist", "-p", "no:cacheprovider", "--tb=short"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "--outcomes", str(outcomes), *options, "--pyargs", *modules],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    if finished.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        pytest.fail(f"Keras's tests did not run:\n{finished.stdout}\n{finished.stderr}")
    return [Outcome(**outcome) for outcome in json.loads(outcomes.read_text())]


def find_faults(outcomes: Sequence[Outcome], differences: Mapping[str, str]) -> list[str]:
    """Compares how the tests ended with the list of those that must differ."""
    faults = []
    matched = set()
    for outcome in outcomes:
        listed = [pattern for pattern in differences if fnmatchcase(outcome.name, pattern)]
        matched.update(listed)
        if listed and outcome.holds:
            faults.append(f"{outcome.name} holds, and is listed because {differences[listed[0]]}.")
        elif not listed and not outcome.holds:
            faults.append(f"{outcome.name} is not listed, and {outcome.describe()}")
    faults += [f"{pattern} is listed, and Keras has no such test." for pattern in differences if pattern not in matched]
    return faults


@pytest.mark.xdist_group("peers")
@pytest.mark.parametrize("module", MODULES, ids=[module.rpartition(".")[2] for module in MODULES])
def test_holds_on_our_core(module: str, tmp_path: Path) -> None:
    outcomes = run_tests_of_keras([module], tmp_path)
    differences = {name: reason for name, reason in DIFFERENCES.items() if name.startswith(f"{module}::")}
    faults = find_faults(outcomes, differences)
    assert not faults, "\n".join(faults)
    assert sum(outcome.saves for outcome in outcomes if outcome.holds) > 0


@pytest.mark.xdist_group("peers-saved-model")
def test_holds_on_our_saved_model(tmp_path: Path) -> None:
    """What Keras promises of its files, our SavedModel keeps too."""
    left_out = [f"--leave-out={name}" for name in DIFFERENCES]
    outcomes = run_tests_of_keras(WHOLE_MODEL_MODULES, tmp_path, "--as-saved-model", *left_out)
    faults = find_faults(outcomes, DIFFERENCES_AS_SAVED_MODEL)
    assert not faults, "\n".join(faults)
    assert sum(outcome.saves for outcome in outcomes if outcome.holds) > 0


def test_every_difference_names_a_module_that_runs() -> None:
    assert [name for name in DIFFERENCES if name.partition("::")[0] not in MODULES] == []


@pytest.mark.parametrize(
    ("outcomes", "differences", "faults"),
    [
        pytest.param([Outcome("m::C::t", saves=1)], {}, [], id="holds"),
        pytest.param([Outcome("m::C::t", "failed", "no")], {"m::C::t": "why"}, [], id="differs as listed"),
        pytest.param([Outcome("m::C::t")], {"m::C::t": "why"}, [], id="does not apply as listed"),
        pytest.param(
            [Outcome("m::C::t", "failed", "no")],
            {},
            ["m::C::t is not listed, and it failed: no"],
            id="unlisted failure",
        ),
        pytest.param(
            [Outcome("m::C::t", "skipped", "no")],
            {},
            ["m::C::t is not listed, and it skipped: no"],
            id="unlisted skip",
        ),
        pytest.param(
            [Outcome("m::C::t")],
            {},
            ["m::C::t is not listed, and it passed without a call of our core"],
            id="adapter without effect",
        ),
        pytest.param(
            [Outcome("m::C::t_1", loads=2)],
            {"m::C::t_*": "why"},
            ["m::C::t_1 holds, and is listed because why."],
            id="stale entry",
        ),
        pytest.param([], {"m::C::t": "why"}, ["m::C::t is listed, and Keras has no such test."], id="gone upstream"),
    ],
)
def test_faults(outcomes: list[Outcome], differences: dict[str, str], faults: list[str]) -> None:
    assert find_faults(outcomes, differences) == faults
