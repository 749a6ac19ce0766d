"""The commands beside the export: named in the help, and described by themselves."""

from pathlib import Path

import pytest

import exporter
from exporter.artifacts.json_schemas import RECIPE_SCHEMA
from exporter.cli.commands import COMMANDS, run_command
from exporter.cli.help.recipes import read_purpose
from exporter.config.directories import RECIPES_DIRECTORY


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: exporter {name} ")


def test_the_recipes_are_listed_with_their_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for recipe in RECIPES_DIRECTORY.glob("*.yaml"):
        purpose = read_purpose(recipe.read_text(encoding="utf-8"))
        assert purpose.endswith(".")
        assert f"{recipe.stem} {purpose}" in shown


def test_a_recipe_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes", "digits"]) == 0
    assert capsys.readouterr().out == (RECIPES_DIRECTORY / "digits.yaml").read_text(encoding="utf-8")


def test_a_copy_runs_and_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["recipes", "digits", "--copy"]) == 0
    assert capsys.readouterr().out == (
        "my_digits.yaml is yours to edit. It runs with\n  exporter my_digits.yaml\n"
        "Many editors complete and check it with this line at its top:\n"
        f"  # yaml-language-server: $schema={RECIPE_SCHEMA}\n"
    )
    copy = tmp_path / "my_digits.yaml"
    copy.write_text(copy.read_text(encoding="utf-8").replace("strict: true", "seed: 7"), encoding="utf-8")
    assert exporter.compose("my_digits", config_dir=tmp_path).seed == 7
    edited = copy.read_bytes()
    assert run_command(["recipes", "digits", "--copy"]) == 3
    assert capsys.readouterr().err == (
        "exporter: my_digits.yaml exists and is not overwritten. Give another name with --copy FILE, or move it away.\n"
    )
    assert copy.read_bytes() == edited
    assert run_command(["recipes", "digits", "--copy", "of mine/own.yaml"]) == 0
    assert (tmp_path / "of mine" / "own.yaml").read_bytes() == (RECIPES_DIRECTORY / "digits.yaml").read_bytes()
    assert "exporter 'of mine/own.yaml'\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digts"], "digts: no recipe of this name; allowed: {recipes}; did you mean digits?"),
        (["--copy"], "--copy: goes with the NAME of a recipe"),
        (["digits", "--copy", "mine.txt"], "--copy: received mine.txt; expected the name of a .yaml file"),
    ],
    ids=["unknown recipe", "copy of nothing", "another suffix"],
)
def test_a_fault_in_what_is_asked_of_recipes(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command(["recipes", *arguments])
    assert stopped.value.code == 2
    names = ", ".join(sorted(path.stem for path in RECIPES_DIRECTORY.glob("*.yaml")))
    assert capsys.readouterr().err == (
        "exporter: 1 fault in the command line\n"
        f"  recipes: {message.format(recipes=names)}\n"
        "  see exporter recipes --help\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_a_fault_of_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command([name, "a", "b", "--surprise"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"exporter: 1 fault in the command line\n  {name}: ")
