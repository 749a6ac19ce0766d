"""What a shell is offered in place of the last word."""

import io
from pathlib import Path

import pytest

from exporter.cli.commands import COMMANDS, run_command
from exporter.cli.commands.explaining.candidates import FLAGS, list_candidates
from exporter.cli.commands.explaining.helping import list_words
from exporter.cli.help import list_rows
from exporter.cli.hydra_private import get_args_parser, list_flags
from exporter.saving.formats import FORMATS

RECIPES = [name for name, _ in list_rows("recipes")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("old.h5", "my model.keras", "mine.yaml", "train.py", "notes.txt", ".hidden.h5"):
        (tmp_path / name).touch()
    (tmp_path / "exports" / "digits").mkdir(parents=True)
    (tmp_path / "exports" / "x.json").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offer(*words: str) -> list[str]:
    return [word for word, _ in list_candidates(words)]


def test_the_first_word_is_a_command_a_file_or_a_key() -> None:
    offered = offer("")
    assert offered[: len(COMMANDS)] == list(COMMANDS)
    assert {"exports/", "old.h5", "my model.keras", "mine.yaml", "train.py", "save_format=", "verify="} <= set(offered)
    assert not {"notes.txt", ".hidden.h5"} & set(offered)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["promo"], ["promote"], id="a command"),
        pytest.param(["my"], ["my model.keras"], id="a file with a blank"),
        pytest.param(["exports/"], ["exports/digits/"], id="in a directory"),
        pytest.param([".h"], [".hidden.h5"], id="a hidden file"),
        pytest.param(["nowhere/"], [], id="no directory"),
        pytest.param(["save_format="], [f"save_format={name}" for name in (*FORMATS, "null")], id="values"),
        pytest.param(["-m", "include_optimizer=true,"], ["include_optimizer=true,false"], id="of a sweep"),
        pytest.param(["old.h5", "layout="], ["layout=single", "layout=tf_serving"], id="options of a group"),
        pytest.param(["verify.mo"], ["verify.mode="], id="a key below another"),
        pytest.param(["verify.mode=r"], ["verify.mode=reload"], id="its value"),
        pytest.param(["meas"], ["measure=", "measure."], id="a group"),
        pytest.param(["model.ep"], ["model.epochs="], id="a key of a source"),
        pytest.param(["filepath=ex"], ["filepath=exports/"], id="a path"),
        pytest.param(["seed="], [], id="a number"),
        pytest.param(["hydra/launcher=j"], ["hydra/launcher=joblib"], id="a launcher"),
        pytest.param(["old.h5", "-o", "no"], ["notes.txt"], id="a target"),
        pytest.param(["-cn", ""], RECIPES, id="recipes"),
        pytest.param(["-cd", ".", "-cn", "mi"], ["mine"], id="a recipe of one's own"),
        pytest.param(["-cd", ""], ["exports/"], id="a directory"),
        pytest.param(["--cfg", "j"], ["job"], id="what is printed"),
        pytest.param(["--ver"], ["--version"], id="a flag"),
        pytest.param(["check", "save_format=op"], ["save_format=openvino"], id="check"),
        pytest.param(["check", "-cn", "resu"], ["resumable"], id="check a recipe"),
        pytest.param(["help", "exit"], ["exit-codes"], id="a section"),
        pytest.param(["help", "tr"], ["troubleshooting", "trust", "training-endpoints"], id="a topic"),
        pytest.param(["help", "verify.mo"], ["verify.mode"], id="a key that is explained"),
        pytest.param(["completion", "b"], ["bash"], id="a shell"),
        pytest.param(["recipes", "image_c"], ["image_classifier"], id="a recipe that is printed"),
        pytest.param(["rerun", "exports/digits", "strict="], ["strict=true", "strict=false"], id="rerun"),
        pytest.param(["predict", "exports/digits", "--inputs", "exports/x"], ["exports/x.json"], id="a file of a flag"),
        pytest.param(["rollback", "exp"], ["exports/"], id="rollback"),
        pytest.param(["promote", "exports/digits", "exp"], ["exports/"], id="promote"),
        pytest.param(["versions", "--j"], ["--json"], id="a flag of a command"),
        pytest.param(["zzz", "zzz"], [], id="nothing"),
    ],
)
def test_what_follows(words: list[str], offered: list[str]) -> None:
    assert offer(*words) == offered


def test_all_that_help_explains_is_offered() -> None:
    assert set(offer("help", "")) == set(list_words())


def test_every_flag_that_is_offered_is_one() -> None:
    assert set(FLAGS) <= {*list_flags(get_args_parser()), "-o"}


def test_the_home_directory_may_be_written_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "exports"))
    assert offer("inspect", "~/d") == ["~/digits/"]


def test_the_shell_asks_by_the_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "a\x1b[31m.h5").touch()
    monkeypatch.setattr("sys.stdin", io.StringIO("a\0"))
    assert run_command(["completion", "--words"]) == 0
    assert capsys.readouterr().out == ""  # what cannot be shown is not offered
    monkeypatch.setattr("sys.stdin", io.StringIO("recipes\0resu\0"))
    assert run_command(["completion", "--words"]) == 0
    word, _, text = capsys.readouterr().out.partition("\t")
    assert (word, text.rstrip("\n")) == ("resumable", dict(list_rows("recipes"))["resumable"])


def test_a_shell_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["completion"])
    assert "expected one of bash, zsh, fish" in capsys.readouterr().err
