"""An artifact that exists becomes the next version, and nothing that exists is lost."""

import multiprocessing
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.artifacts.manifest import check_integrity
from exporter.artifacts.numbered_versions import list_numbers
from exporter.artifacts.receipt import Receipt
from exporter.cli.commands import run_command
from exporter.cli.shorthands import expand
from exporter.exporting.destinations.copying import promote, roll_back
from exporter.storage.digests import record_files
from exporter.storage.sidecars import name_receipt, name_request, name_signature

FORMER = Path(__file__).parents[2] / "former" / "served"
STRANGE = "\x1b[31m\u202e"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A directory of the versions 1, 2 and 5, which differ."""
    for number in (1, 2, 5):
        copy_artifact(tmp_path / "served" / f"{number}", f"{number}")
    return tmp_path / "served"


def copy_artifact(target: Path, host: str = "elsewhere") -> Path:
    shutil.copytree(FORMER / "1", target, symlinks=True)
    shutil.copy(FORMER / "1.request.json", name_request(target))
    receipt = Receipt.from_json((FORMER / "1.receipt.json").read_text(encoding="utf-8"))
    receipt = replace(receipt, filepath=str(target), host=host)
    name_receipt(target).write_text(receipt.to_json(), encoding="utf-8")
    return target


def read_all(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def read_receipt(version: Path) -> Receipt:
    return Receipt.from_json(name_receipt(version).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("to", "source"), [(None, "2"), (1, "1"), (2, "2")], ids=["the one before", "first", "named"])
def test_an_older_version_becomes_the_newest(served: Path, to: int | None, source: str) -> None:
    name_signature(served / source).write_text("signed")
    before = read_all(served)
    published = roll_back(served, to)
    assert (published.path, published.source) == (served / "6", served / source)
    assert record_files(served / "6", "6") == record_files(served / source, source)
    assert check_integrity(served / "6").witnesses == ("manifest", "receipt")
    receipt, older = read_receipt(served / "6"), read_receipt(served / source)
    assert receipt == replace(
        older,
        filepath=str(served / "6"),
        request=receipt.request,
        finished=receipt.finished,
        came_from=f"version {source}",
    )
    assert receipt.finished > older.finished
    assert receipt.request is not None
    assert receipt.request.file == str(name_request(served / "6"))
    assert name_request(served / "6").read_text() == name_request(served / source).read_text()
    assert name_signature(served / "6").read_text() == "signed"
    assert {name: content for name, content in read_all(served).items() if name in before} == before


def test_rolled_back_twice_it_is_what_it_was(served: Path) -> None:
    assert [roll_back(served).source.name for _ in range(2)] == ["2", "5"]
    assert list_numbers(served) == [1, 2, 5, 6, 7]
    assert not [name for name in os.listdir(served) if name.startswith(".")]


def test_a_version_that_is_changed_changes_no_other(served: Path) -> None:
    before = read_all(served)
    newest = roll_back(served).path
    for path in newest.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            with path.open("r+b") as file:
                file.write(b"changed")
    assert {name: content for name, content in read_all(served).items() if name in before} == before
    assert check_integrity(served / "2").mismatches == ()
    assert check_integrity(newest).mismatches


def test_a_saved_model_from_elsewhere_becomes_the_next_version(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = copy_artifact(tmp_path / f"trained{STRANGE}")
    before = read_all(tmp_path)
    assert run_command(["promote", str(artifact), str(served)]) == 0
    shown = capsys.readouterr().out
    assert shown == (
        f"✓ {served / '6'} has the bytes of {tmp_path}/trained\\x1b[31m\\u202e: 12 files, 397.7 kB, all as exported, "
        "by its manifest\n"
    )
    assert read_receipt(served / "6").came_from == str(artifact)
    assert read_receipt(served / "6").host == "elsewhere"
    assert {name: content for name, content in read_all(tmp_path).items() if name in before} == before


def test_the_directory_of_versions_is_made(tmp_path: Path) -> None:
    artifact = copy_artifact(tmp_path / "trained")
    assert promote(artifact, tmp_path / "new" / "served", "there").path == tmp_path / "new" / "served" / "1"


def test_what_has_no_receipt_is_published_without_one(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name_receipt(copy_artifact(tmp_path / "trained")).unlink()
    assert run_command(["promote", str(tmp_path / "trained"), str(served)]) == 0
    assert "! there was no receipt beside it: nothing tells what it was made from\n" in capsys.readouterr().out
    assert not name_receipt(served / "6").exists()
    assert run_command(["verify", "--files-only", str(served / "6")]) == 0


def change_byte(artifact: Path) -> None:
    content = bytearray((artifact / "fingerprint.pb").read_bytes())
    content[5] ^= 1
    (artifact / "fingerprint.pb").write_bytes(content)


def link_by_whole_path(artifact: Path) -> None:
    (artifact / "model.weights.h5").unlink()
    (artifact / "model.weights.h5").symlink_to(artifact / "variables" / "variables.data-00000-of-00001")


def forge_receipt(artifact: Path) -> None:
    name_receipt(artifact).write_text(name_receipt(artifact).read_text().replace("fingerprint.pb", "other.pb"))


def make_pipe(artifact: Path) -> None:
    os.mkfifo(artifact / "pipe")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(change_byte, "{it} is not as it was exported: fingerprint.pb has other bytes", id="byte"),
        pytest.param(lambda it: (it / "extra").touch(), "{it} is not as it was exported: extra was added", id="added"),
        pytest.param(forge_receipt, "{it} is not as it was exported: fingerprint.pb was added, ", id="receipt"),
        pytest.param(link_by_whole_path, "{it} is refused: the link model.weights.h5 -> {it}/variables/", id="link"),
        pytest.param(make_pipe, "{it} is refused: pipe is neither a file nor a directory.", id="pipe"),
        pytest.param(lambda it: name_receipt(it).write_text("{"), "This is not a receipt: ", id="damaged receipt"),
        pytest.param(lambda it: name_signature(it).mkdir(), "{it}.sig cannot be read: it is no file.", id="signature"),
    ],
)
@pytest.mark.parametrize("command", ["rollback", "promote"])
def test_what_is_damaged_is_refused_and_nothing_moves(
    served: Path,
    tmp_path: Path,
    command: str,
    damage: Callable[[Path], None],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    artifact = copy_artifact(tmp_path / "trained") if command == "promote" else served / "2"
    damage(artifact)
    before = read_all(tmp_path) if damage is not make_pipe else {}
    arguments = ["promote", str(artifact), str(served)] if command == "promote" else ["rollback", str(served)]
    assert run_command(arguments) == 3
    assert capsys.readouterr().err.startswith(f"exporter: {words.format(it=artifact)}")
    assert before in ({}, read_all(tmp_path))
    assert list_numbers(served) == [1, 2, 5]
    if command == "rollback":  # the remedy: another one
        assert run_command(["rollback", str(served), "--to", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--to", "5"], "{it}/5 is the newest version already. Give an older one: 2, 1.", id="newest"),
        pytest.param(["--to", "3"], "{it} has no version 3. Give one of these with --to: 2, 1.", id="none such"),
        pytest.param(["--to", "-1"], "{it} has no version -1. Give one of these with --to: 2, 1.", id="negative"),
    ],
)
def test_a_version_that_cannot_be_gone_back_to(
    served: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["rollback", str(served), *arguments]) == 3
    assert capsys.readouterr().err == f"exporter: {message.format(it=served)}\n"


def test_one_version_has_none_before_it_until_another_is_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served, artifact = tmp_path / "my models", copy_artifact(tmp_path / "trained")
    assert run_command(["rollback", str(served)]) == 3
    assert "holds no versions to roll back" in capsys.readouterr().err
    copy_artifact(served / "1")
    assert run_command(["rollback", str(served)]) == 3
    error = capsys.readouterr().err
    program, *words = shlex.split(error.partition("Publish another one with: ")[2])
    assert (program, words[1]) == ("exporter", "ARTIFACT")
    assert run_command([words[0], str(artifact), *words[2:]]) == 0
    assert run_command(["rollback", str(served)]) == 0


@pytest.mark.parametrize(
    ("artifact", "directory", "words"),
    [
        pytest.param("no", "served", "There is no {folder}/no. Give the path of a SavedModel", id="nothing"),
        pytest.param("digits.h5", "served", "{folder}/digits.h5 is an HDF5 file, which no server of ", id="format"),
        pytest.param("trained", "served/5", "{folder}/served/5 is a SavedModel itself, and ", id="into a model"),
        pytest.param("trained", "trained/x", "{folder}/trained/x is inside of {folder}/trained.", id="into itself"),
        pytest.param("trained", "digits.h5", "The version could not be copied into {folder}/digits.h5: ", id="file"),
    ],
)
def test_what_cannot_be_promoted(
    served: Path, tmp_path: Path, artifact: str, directory: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_artifact(tmp_path / "trained")
    shutil.copy(FORMER.parent / "digits.h5", tmp_path)
    before = read_all(tmp_path)
    assert run_command(["promote", str(tmp_path / artifact), str(tmp_path / directory)]) == 3
    assert capsys.readouterr().err.startswith(f"exporter: {words.format(folder=tmp_path)}")
    assert read_all(tmp_path) == before


def test_a_full_disk_leaves_what_was_there(
    served: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(source: Path, target: Path, **_: object) -> None:
        target.mkdir()
        (target / "half").write_text("half")
        raise shutil.Error([("a", "b", "No space left on device")])

    before = read_all(served)
    monkeypatch.setattr(shutil, "copytree", fill)
    assert run_command(["rollback", str(served)]) == 3
    assert "What was there is unchanged. Free space, or choose a directory that can be written." in (
        capsys.readouterr().err
    )
    assert read_all(served) == before
    assert list_numbers(served) == [1, 2, 5]


def roll_back_there(directory: str) -> None:
    roll_back(Path(directory))


def test_those_who_roll_back_at_once_take_turns(served: Path) -> None:
    others = [
        multiprocessing.get_context("fork").Process(target=roll_back_there, args=(str(served),)) for _ in range(4)
    ]
    for each in others:
        each.start()
    for each in others:
        each.join()
    assert [each.exitcode for each in others] == [0] * 4
    assert list_numbers(served) == [1, 2, 5, 6, 7, 8, 9]
    # Each went back to the one before the newest of its turn.
    assert [read_receipt(served / f"{n}").came_from for n in (6, 7, 8, 9)] == [
        f"version {n}" for n in ("2", "5", "6", "7")
    ]


@pytest.fixture
def foreign(served: Path) -> Path:
    """The version before the newest, as another software writes it."""
    shutil.rmtree(served / "2" / "assets.extra")
    name_receipt(served / "2").unlink()
    return served / "2"


def test_what_others_wrote_can_be_gone_back_to(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = foreign.parent
    assert run_command(["rollback", str(served)]) == 0
    assert "! there was no manifest in it: nothing tells whether they are" in capsys.readouterr().out
    assert record_files(served / "6", "") == record_files(foreign, "")


def test_what_others_wrote_is_not_promoted(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "a new one"
    assert run_command(["promote", str(foreign), str(new)]) == 3
    words = shlex.split(capsys.readouterr().err.partition("to have one: ")[2])
    assert words == ["exporter", str(foreign), "-o", str(new), "layout=tf_serving"]
    expansion = expand([words[1], words[4]], [words[3]])
    assert [each.partition("=")[0] for each in expansion.overrides] == ["model", "model.filepath", "layout", "filepath"]
    assert not new.exists()


def test_a_manifest_that_is_gone_is_damage(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (served / "2" / "assets.extra" / "exporter" / "manifest.json").unlink()
    assert run_command(["rollback", str(served)]) == 3
    assert "manifest.json is missing. Nothing was published." in capsys.readouterr().err
