"""The recipe that is written for a model: it composes as it stands, and nothing is overwritten."""

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from exporter.cli.command_line import read_command_line
from exporter.cli.commands import run_command
from exporter.cli.composing import own_hydra
from exporter.cli.preflight.jobs import Preflight
from exporter.config import JobConfig

FORMER = Path(__file__).parents[1] / "former"
_MODULE = """
def build(units=3, *, depth=1, report=None): ...
def need(width, report): ...
model = object()
"""


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_init_models.py").write_text(_MODULE)
    (tmp_path / "old model.keras").write_bytes((FORMER / "digits.keras").read_bytes())


def compose(words: list[str], monkeypatch: pytest.MonkeyPatch) -> JobConfig:
    """Composes a command line as `exporter` does."""
    jobs: list[Any] = []
    check = Preflight.check

    def keep(self: Preflight, *arguments: Any, **named: Any) -> Any:
        jobs[:] = check(self, *arguments, **named)
        return list(jobs)

    monkeypatch.setattr(Preflight, "check", keep)
    with own_hydra():
        read_command_line(words)
    config: JobConfig = jobs[0].config
    return config


@pytest.mark.parametrize(
    ("word", "recipe", "model", "filepath", "told"),
    [
        pytest.param(
            "old model.keras",
            "old model.yaml",
            {"_target_": "exporter.sources.file", "filepath": "old model.keras"},
            "exports/old model-export",
            [
                "# It takes pixels: float32 [null, 8, 8, 1].",
                "#   exporter 'old model.yaml'",
            ],
            id="file",
        ),
        pytest.param(
            "own_init_models.py:build",
            "build.yaml",
            {"_target_": "own_init_models.build"},
            "exports/build",
            ["  # It also takes units, depth."],
            id="function",
        ),
        pytest.param(
            "own_init_models:model",
            "model.yaml",
            {"_target_": "own_init_models.model"},
            "exports/model",
            [],
            id="model-in-a-module",
        ),
    ],
)
def test_a_recipe_composes_as_it_stands(
    word: str,
    recipe: str,
    model: dict[str, str],
    filepath: str,
    told: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    assert run_command(["init", word]) == 0
    assert f"{recipe} is yours to edit. It runs with\n  exporter " in capsys.readouterr().out
    lines = Path(recipe).read_text().splitlines()
    assert set(told) <= set(lines)
    config = compose([recipe], monkeypatch)
    assert model.items() <= config.model.items()
    assert (config.filepath, config.save_format) == (filepath, "tf")
    assert run_command(["init", word]) == 3
    assert capsys.readouterr().err == (
        f"exporter: {recipe} exists and is not overwritten. Give another name with -o FILE, or move it away.\n"
    )
    assert Path(recipe).read_text().splitlines() == lines
    assert run_command(["init", word, "-o", "in here/mine.yaml"]) == 0


def test_no_tensorflow_is_needed(command: Command) -> None:
    done = command("init", "own_init_models.py:build")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_argument_without_a_default_is_left_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(["init", "own_init_models.py:need"]) == 0
    assert "  width: ???  # it has no default" in Path("need.yaml").read_text().splitlines()
    assert compose(["need.yaml", "model.width=3"], monkeypatch).model["width"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["digits"], "digits: expected the file or the directory of a model, or MODULE.py", id="recipe"),
        pytest.param(["own_init_models.py:biuld"], "did you mean build?", id="name"),
        pytest.param(["own_init_models.py"], "name what makes the model in it", id="module"),
        pytest.param(["old model.keras", "-o", "x.txt"], "expected the name of a .yaml file", id="suffix"),
        pytest.param(
            ["sub/of_sub.py:build", "-o", "x.yaml"],
            "the module would not be found from there: write",
            id="far",
        ),
    ],
)
def test_what_is_no_model_is_a_fault(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    Path("sub", "of_sub.py").write_text(_MODULE)
    with pytest.raises(SystemExit) as stopped:
        run_command(["init", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(Path().glob("*.yaml"))
