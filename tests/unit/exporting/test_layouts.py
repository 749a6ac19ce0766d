"""Where an artifact stands: versions for TF Serving, how they are numbered, and which ones are removed."""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_receipt import RECEIPT

from exporter.config import ExportConfig, LayoutConfig, LayoutKind
from exporter.errors import ArgumentError, ExportError, TargetExistsError
from exporter.exporting.destinations import versions
from exporter.exporting.destinations.choosing import choose_destination, find_target
from exporter.exporting.destinations.local import Destination
from exporter.storage import staging
from exporter.storage.remote import show_urls


def make_config(filepath: Path, overwrite: bool = True, **layout: Any) -> ExportConfig:
    kind = LayoutKind.TF_SERVING if layout else LayoutKind.SINGLE
    return ExportConfig(
        model=None, filepath=str(filepath), overwrite=overwrite, layout=LayoutConfig(kind=kind, **layout)
    )


def write(place: Destination, content: str = "new") -> Path:
    """Does what an export does, with an artifact of two files: the one that a server looks for is there first."""
    with staging.stage_beside(place.target, alone=not place.is_named_late) as staged:
        staged.mkdir()
        (staged / "saved_model.pb").write_text(content)
        (staged / "variables").write_text(content)
        receipt = place.publish(staged, lambda target, request: replace(RECEIPT, filepath=str(target)))
    published = Path(receipt.filepath)
    place.remove_older(str(published))
    return published


def list_versions(directory: Path) -> list[str]:
    return [name for name in list_shown(directory) if not name.endswith(".json")]


def make_versions(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).mkdir(parents=True)
        (directory / name / "saved_model.pb").write_text("old")


def list_shown(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if not name.startswith("."))


def test_an_artifact_alone_stands_at_its_path(tmp_path: Path) -> None:
    place = choose_destination(make_config(tmp_path / "model"))
    assert (write(place), place.save_format.name) == (tmp_path / "model", "tf")
    assert sorted(os.listdir(tmp_path)) == ["model", "model.receipt.json"]


@pytest.mark.parametrize(
    ("there", "number"),
    [
        pytest.param([], "1", id="first"),
        pytest.param(["1", "2", "10"], "11", id="next"),
        pytest.param(["007"], "8", id="leading zeros"),
        pytest.param(["-5"], "1", id="negative"),
        pytest.param(["3.receipt.json", ".exporter-00-9", "v7", "2x"], "1", id="not numbers"),
    ],
)
def test_the_next_integer_is_taken(tmp_path: Path, there: list[str], number: str) -> None:
    make_versions(tmp_path / "model", *there)
    assert write(choose_destination(make_config(tmp_path / "model", version="auto"))) == tmp_path / "model" / number


@given(st.sets(st.text(alphabet="-0123456789 .ex", min_size=1, max_size=5)))
def test_the_next_integer_is_larger_than_any_that_a_server_reads(names: set[str]) -> None:
    taken = {int(name) for name in names if versions.VERSION.fullmatch(name)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "list_names", lambda directory: sorted(names))
        assert int(versions.choose_version(Path("model"), "auto")) > max(taken, default=0)


def test_a_timestamp_is_the_second_of_the_publication(tmp_path: Path) -> None:
    place = choose_destination(make_config(tmp_path / "model", version="timestamp"))
    before = int(time.time())
    numbers = [int(write(place).name) for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert before <= numbers[0] <= time.time()


def test_a_number_is_taken_as_it_is(tmp_path: Path) -> None:
    make_versions(tmp_path / "model", "3", "9")
    place = choose_destination(make_config(tmp_path / "model", version="3"))
    assert write(place) == tmp_path / "model" / "3"
    assert (tmp_path / "model" / "3" / "saved_model.pb").read_text() == "new"
    assert (tmp_path / "model" / "9" / "saved_model.pb").read_text() == "old"


def test_a_number_that_is_there_may_be_protected(tmp_path: Path) -> None:
    make_versions(tmp_path / "model", "3")
    with pytest.raises(TargetExistsError) as caught:
        choose_destination(make_config(tmp_path / "model", overwrite=False, version="3"))
    assert str(caught.value) == (
        f"{tmp_path / 'model' / '3'} exists and `overwrite` is false. Choose another `filepath`, or allow it with "
        "overwrite=true."
    )
    assert write(choose_destination(make_config(tmp_path / "model", overwrite=False, version="auto"))).name == "4"


def test_a_number_that_has_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    place = choose_destination(make_config(tmp_path / "model", overwrite=False, version="3"))
    make_versions(tmp_path / "model", "3")
    with pytest.raises(TargetExistsError):
        write(place)
    assert (tmp_path / "model" / "3" / "saved_model.pb").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        pytest.param("model", "Choose another `filepath`, or move it to {folder}/model/1.", id="name"),
        pytest.param("3", "Give the directory that it is in: 'filepath={folder}'.", id="version"),
    ],
)
def test_a_model_is_no_directory_of_versions(tmp_path: Path, name: str, remedy: str) -> None:
    folder = tmp_path / "my models"
    make_versions(folder, name)
    with pytest.raises(ArgumentError) as caught:
        choose_destination(make_config(folder / name, version="auto"))
    assert str(caught.value) == (
        f"{folder / name} is a SavedModel itself, and layout=tf_serving needs a directory of versions. "
        f"{remedy.format(folder=folder)}"
    )


@pytest.mark.parametrize("root", [pytest.param("{}", id="disk"), pytest.param("file://{}", id="store")])
def test_the_latest_version_is_the_newest_that_is_complete(tmp_path: Path, root: str) -> None:
    url = root.format(tmp_path / "model")
    config = replace(make_config(tmp_path, version="auto"), filepath=url)

    def find_latest() -> str | None:
        place = choose_destination(config)
        try:
            latest = place.find_latest()
            return None if latest is None else f"{show_urls(str(latest))} {(latest / 'saved_model.pb').read_text()}"
        finally:
            place.close()

    assert find_latest() is None
    make_versions(tmp_path / "model", "2", "10", "v11")
    (tmp_path / "model" / "12").mkdir()
    (tmp_path / "model" / "12" / "keras_metadata.pb").touch()
    assert find_latest() == f"{url}/10 old"


@pytest.mark.parametrize(
    ("there", "version", "keep", "left"),
    [
        pytest.param(["1", "2", "3"], "auto", None, ["1", "2", "3", "4"], id="all"),
        pytest.param(["1", "2", "3"], "auto", 2, ["3", "4"], id="two"),
        pytest.param(["1", "2", "3"], "auto", 1, ["4"], id="one"),
        pytest.param(["1", "2", "3"], "auto", 9, ["1", "2", "3", "4"], id="more than there are"),
        pytest.param(["1", "7", "8"], "5", 2, ["5", "7", "8"], id="newer ones stay"),
        pytest.param(["1", "2"], "2", 1, ["2"], id="replaced"),
    ],
)
def test_the_newest_versions_stay(
    tmp_path: Path, there: list[str], version: str, keep: int | None, left: list[str]
) -> None:
    make_versions(tmp_path / "model", *there)
    write(choose_destination(make_config(tmp_path / "model", version=version, keep=keep)))
    assert list_versions(tmp_path / "model") == left


def test_only_versions_of_a_saved_model_are_removed(tmp_path: Path) -> None:
    base = tmp_path / "model"
    make_versions(base, "1", "02", "old", "-4")
    (base / "2").mkdir()
    (base / "2" / "notes.txt").write_text("not a model")
    (base / "3").write_text("not a directory")
    for name in ("1.receipt.json", "1.request.json", "2.request.json"):
        (base / name).write_text("{}")
    write(choose_destination(make_config(base, version="auto", keep=1)))
    kept = ["-4", "02", "1.receipt.json", "2", "2.request.json", "3", "4", "4.receipt.json", "old"]
    assert list_shown(base) == kept


def test_a_version_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_versions(tmp_path / "model", "1")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "1":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ExportError) as caught:
        write(choose_destination(make_config(tmp_path / "model", version="auto", keep=1)))
    assert str(caught.value) == (
        f"The new version was published, and the older one {tmp_path / 'model' / '1'} could not be removed: [Errno 13] "
        "Permission denied. Remove it by hand, or keep all with layout.keep=null."
    )
    assert list_versions(tmp_path / "model") == ["1", "2"]


def test_nothing_but_complete_versions_is_seen(tmp_path: Path) -> None:
    """What is written beside the versions has a name that TF Serving does not read as a version."""
    place = choose_destination(make_config(tmp_path / "model", version="auto", keep=1))
    make_versions(tmp_path / "model", "1")
    with staging.stage_beside(place.target) as staged:
        staged.mkdir()
        assert [name for name in os.listdir(tmp_path / "model") if versions.VERSION.fullmatch(name)] == ["1"]


def write_many(filepath: Path, writer: int, start: Any) -> None:
    start.wait()
    for number in range(8):
        write(choose_destination(make_config(filepath, version="auto")), f"{writer}-{number}")


def test_writers_at_once_take_a_number_each(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    writers = [context.Process(target=write_many, args=(tmp_path / "model", writer, start)) for writer in range(4)]
    for process in writers:
        process.start()
    seen: set[str] = set()
    while any(process.is_alive() for process in writers):
        for name in list_versions(tmp_path / "model") if (tmp_path / "model").is_dir() else []:
            seen.add(name)
            assert (tmp_path / "model" / name / "variables").read_text()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    versions = list_versions(tmp_path / "model")
    assert [name for name in os.listdir(tmp_path / "model") if name.startswith(".")] == []
    assert sorted(versions, key=int) == [str(number) for number in range(1, 33)]
    written = {(tmp_path / "model" / name / "saved_model.pb").read_text() for name in versions}
    assert written == {f"{writer}-{number}" for writer in range(4) for number in range(8)}
    assert seen


@pytest.mark.parametrize(
    ("layout", "target"),
    [
        pytest.param({}, "model", id="single"),
        pytest.param({"version": "3"}, "model/3", id="number"),
        pytest.param({"version": "auto"}, None, id="auto"),
        pytest.param({"version": "timestamp"}, None, id="timestamp"),
    ],
)
def test_the_target_is_known_before_the_run(layout: dict[str, Any], target: str | None) -> None:
    assert find_target(make_config(Path("model"), **layout)) == (None if target is None else Path(target))
