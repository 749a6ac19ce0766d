"""The numbered versions of a directory, as their records tell of them."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from exporter.artifacts.inspection.showing.versions_page import Versions
from exporter.artifacts.numbered_versions import digest_contract, find_newest, list_numbers, read_versions_of
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Score
from exporter.cli.commands import run_command
from exporter.saving.contents import Endpoint, Tensor

FORMER = Path(__file__).parents[2] / "former" / "served"
MANIFEST = "assets.extra/exporter/manifest.json"
EXPECTED = "Expected directories 1, 2, ... as layout=tf_serving filepath={it} writes them."
SCORE = {
    "endpoint": "s",
    "output": "p",
    "metric": "accuracy",
    "model": 0.5,
    "artifact": 0.5,
    "samples": 1,
    "loss": 0,
    "higher_is_better": True,
}
ESCAPE = "\x1b[31m\u202e"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A directory of two equal versions, 2 and 10."""
    for number in (2, 10):
        copy_version(tmp_path / "served", number)
    return tmp_path / "served"


def copy_version(directory: Path, number: int, **fields: Any) -> Path:
    shutil.copytree(FORMER / "1", directory / f"{number}", symlinks=True)
    receipt = Receipt.from_json((FORMER / "1.receipt.json").read_text(encoding="utf-8"))
    receipt = replace(receipt, filepath=str(directory / f"{number}"), **fields)
    (directory / f"{number}.receipt.json").write_text(receipt.to_json(), encoding="utf-8")
    return directory / f"{number}"


def show(directory: Path, width: int = 120) -> str:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False, width=width)
    Versions(directory, read_versions_of(directory)).show(console)
    return stream.getvalue()


def test_the_newest_is_the_largest_number_that_a_server_loads(served: Path) -> None:
    (served / "11").mkdir()
    (served / "v12").mkdir()
    assert (list_numbers(served), find_newest(served)) == ([2, 10], served / "10")
    assert [(each.number, each.newest, each.broken) for each in read_versions_of(served)] == [
        (11, False, True),
        (10, True, False),
        (2, False, False),
    ]
    assert find_newest(served / "10") is None
    assert find_newest(served / "no") is None


def test_a_row_says_what_is_known_of_a_version(served: Path) -> None:
    accuracy = Score("serving_default", "probabilities", "accuracy", 0.9722, 0.9722, 360, 0.0, True)
    copy_version(served, 11, scores=(accuracy,), came_from="version 2")
    newest, before, _ = read_versions_of(served)
    assert (newest.recipe, newest.status, newest.scores) == ("digits", "proven", (accuracy,))
    assert newest.contract == before.contract != ""
    assert newest.total_bytes == sum(
        each.stat().st_size for each in (served / "11").rglob("*") if not each.is_symlink() and each.is_file()
    )
    shown = show(served)
    assert "11 ◆" in shown
    assert "0.9722" in shown
    assert "11  from version 2\n" in shown
    assert shown.count("✓ proven") == 3


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        pytest.param(lambda e: e, True, id="the same"),
        pytest.param(lambda e: Endpoint({"p": Tensor((None, 9), "float32")}, e.outputs), False, id="another shape"),
        pytest.param(lambda e: Endpoint({"p": Tensor((None, 8), "float16")}, e.outputs), False, id="another dtype"),
        pytest.param(lambda e: Endpoint({"q": e.inputs["p"]}, e.outputs), False, id="another name"),
        pytest.param(lambda e: Endpoint(e.inputs, {**e.outputs, "z": e.inputs["p"]}), False, id="one more output"),
        pytest.param(
            lambda e: Endpoint(e.inputs, dict(reversed(e.outputs.items()))), True, id="another order of the same"
        ),
    ],
)
def test_the_same_contract_has_the_same_digest(change: Callable[[Endpoint], Endpoint], is_same: bool) -> None:
    endpoint = Endpoint({"p": Tensor((None, 8), "float32")}, {"a": Tensor(None, "int64"), "b": Tensor((), "bool")})
    assert (digest_contract({"s": change(endpoint)}) == digest_contract({"s": endpoint})) is is_same


def break_receipt(version: Path) -> None:
    version.with_name("10.receipt.json").write_text('{"schema_version": 1}')


def forge_receipt(version: Path) -> None:
    path = version.with_name("10.receipt.json")
    path.write_text(path.read_text().replace("fingerprint.pb", "other.pb"))


def name_outside(version: Path) -> None:
    path = version / MANIFEST
    path.write_text(path.read_text().replace('"fingerprint.pb"', '"../2/fingerprint.pb"'))


def nest(version: Path) -> None:
    (version / MANIFEST).write_text("[" * 100_000)


def cut(version: Path) -> None:
    (version / "fingerprint.pb").write_bytes(b"x")


def replace_manifest_with_directory(version: Path) -> None:
    (version / MANIFEST).unlink()
    (version / MANIFEST).mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(break_receipt, "its receipt cannot be read: The receipt is damaged: ", id="receipt"),
        pytest.param(forge_receipt, "its receipt is that of other bytes", id="receipt of another"),
        pytest.param(lambda v: v.with_name("10.receipt.json").unlink(), "there is no receipt beside it", id="none"),
        pytest.param(lambda v: (v / MANIFEST).unlink(), "its manifest is missing", id="no manifest"),
        pytest.param(lambda v: (v / MANIFEST).write_text("{"), "its manifest cannot be read: ", id="manifest"),
        pytest.param(nest, "its manifest cannot be read: ", id="nested"),
        pytest.param(replace_manifest_with_directory, "its manifest cannot be read: it is no file", id="no file"),
        pytest.param(name_outside, "../2/fingerprint.pb is named and lies outside of it", id="outside"),
        pytest.param(lambda v: (v / "fingerprint.pb").unlink(), "fingerprint.pb is missing", id="file"),
        pytest.param(cut, "fingerprint.pb has 1 bytes instead of ", id="size"),
        pytest.param(lambda v: (v / "saved_model.pb").unlink(), "there is no saved_model.pb in it: a server ", id="pb"),
    ],
)
def test_what_is_broken_is_a_row_that_says_so(served: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(served / "10")
    shown = show(served)
    assert words in shown
    assert read_versions_of(served)[1].broken is False
    assert ("✗ broken" in shown) == (words != "there is no receipt beside it")
    assert "✓ proven" in shown


def test_nothing_is_dropped_or_broken_where_it_is_narrow(served: Path) -> None:
    (served / "2" / "fingerprint.pb").unlink()
    copy_version(served, 123456789, recipe={"model": {"_target_": "a.very_long_name_of_a_function_that_makes_models"}})
    wide, narrow = show(served, 200), show(served, 60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert set(wide.split()) <= set(narrow.split())


def test_what_strangers_wrote_is_text(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_version(served, 11, recipe={"model": {"_target_": f"a.[red]{ESCAPE}"}}, came_from=ESCAPE, finished="[bold]x")
    for arguments in ([], ["--json"]):
        assert run_command(["versions", str(served), *arguments]) == 0
        shown = capsys.readouterr().out
        assert shown.replace("\n", "").isprintable()
    assert json.loads(shown)["versions"][0]["came_from"] == ESCAPE


LARGE = 10**400


@pytest.mark.parametrize(
    ("record", "old", "new"),
    [
        pytest.param("receipt", '"total_bytes": 397660', f'"total_bytes": {LARGE}', id="bytes of the receipt"),
        pytest.param("receipt", '"recipe": {', '"recipe": {"model": [1], "_": {', id="recipe"),
        pytest.param("receipt", '"scores": []', f'"scores": [{json.dumps(SCORE)}]'.replace("0.5", "1e999"), id="score"),
        pytest.param("manifest", '"size": ', f'"size": {LARGE}', id="bytes of the manifest"),
        pytest.param("manifest", '"size": ', '"size": -', id="below zero"),
        pytest.param("manifest", '"fingerprint.pb"', f'"{"x" * 5000}"', id="long name"),
        pytest.param("manifest", '"fingerprint.pb"', r'"a\u0000b"', id="name with a zero"),
        pytest.param("manifest", '"fingerprint.pb"', r'"\ud800"', id="half a character"),
        pytest.param("both", '"fingerprint.pb"', r'"\ud800"', id="half a character in both"),
    ],
)
def test_records_that_say_anything_are_rows(
    served: Path, record: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"receipt": served / "10.receipt.json", "manifest": served / "10" / MANIFEST}
    for name, path in paths.items():
        if record in (name, "both"):
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))
            if record == "manifest":
                (served / "10.receipt.json").unlink(missing_ok=True)
    for arguments in ([], ["--json"]):
        assert run_command(["versions", str(served), *arguments]) == 0
        assert capsys.readouterr().out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "2",
            "{it} is a SavedModel itself and no directory of versions. See it with: exporter inspect {it}",
            id="model",
        ),
        pytest.param(
            "..",
            f"{{it}} holds no numbered versions. {EXPECTED}",
            id="others",
        ),
        pytest.param(
            "no",
            f"{{it}} is no directory of versions. {EXPECTED}",
            id="nothing",
        ),
    ],
)
def test_what_is_no_directory_of_versions(
    served: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["versions", str(served / name)]) == 3
    assert capsys.readouterr().err == f"exporter: {message.format(it=served / name)}\n"


def test_a_url_is_a_fault_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(["versions", "s3://bucket/model"])
    assert "versions: DIR: received a URL, and this works in a directory on the disk" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inspect", "verify", "diff", "diff of signatures"])
def test_of_a_directory_of_versions_the_newest_is_taken(
    served: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (served / "2" / "saved_model.pb").write_bytes(b"damaged")
    arguments = {
        "inspect": ["inspect", str(served), "--json"],
        "verify": ["verify", "--files-only", str(served)],
        "diff": ["diff", str(served), str(FORMER / "1")],
        "diff of signatures": ["diff", "--signatures", str(FORMER / "1"), str(served)],
    }
    assert run_command(arguments[name]) == 0
    found = capsys.readouterr()
    assert found.err == f"! {served} is a directory of versions: this is the newest, 10\n"
    assert f"{served / '10'}" in found.out


def test_a_directory_that_may_not_be_read_is_an_error_in_words(
    served: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.listdir", refuse)
    assert run_command(["versions", str(served)]) == 3
    assert capsys.readouterr().err == (
        f"exporter: {served} cannot be read: [Errno 13] Permission denied: '{served}'. Give a directory that you may "
        "read.\n"
    )


def test_a_version_that_may_not_be_read_is_a_row(served: Path) -> None:
    (served / "10" / "saved_model.pb").unlink()
    (served / "10" / "saved_model.pb").symlink_to("saved_model.pb")
    (served / "11").symlink_to("11")
    assert [(each.number, each.broken) for each in read_versions_of(served)] == [(11, True), (10, True), (2, False)]
