"""A place in a store holds the former artifact or the new one, whenever an export of it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest
from fragile_store import FragileFileSystem, failing
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import serve_objects
from s3fs import S3FileSystem
from sample_receipt import RECEIPT

from exporter.artifacts.receipt import Receipt
from exporter.config import ExportConfig, LayoutConfig, LayoutKind
from exporter.errors import ArgumentError, ExportError
from exporter.exporting.destinations.remote import choose_remote_destination
from exporter.storage.digests import record_files
from exporter.storage.remote import Store, fetch

Tree = dict[str, bytes]

URL = "fragile://bucket/models/model"

NAMES = st.text(st.sampled_from("ab.é日 =%#?*[]{}~'\"&+:;,@!^()"), min_size=1, max_size=5).filter(
    lambda name: name.strip(".") and not name.startswith(".")
)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "d/" * (len(parts) - 1) + parts[-1]),
    st.binary(max_size=40),
    max_size=4,
)
# One file is an artifact as well: its only name is empty.
TREES = st.one_of(FILES.map(lambda files: {**files, "saved_model.pb": b"graph"}), st.just({"": b"archive"}))


def publish(tree: Tree, url: str, overwrite: bool = True, layout: LayoutConfig | None = None) -> Receipt:
    config = ExportConfig(
        model=None,
        filepath=url,
        overwrite=overwrite,
        save_format="tf" if "" not in tree else "keras",
        layout=layout or LayoutConfig(),
    )
    place = choose_remote_destination(config)
    try:
        with tempfile.TemporaryDirectory() as room:
            staged = Path(room, place.target.name)
            for name, content in tree.items():
                path = staged / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            files = record_files(staged, staged.name)
            place.upload(staged, lambda note, share: None)
            return place.publish(staged, lambda target, request: replace(RECEIPT, files=files, left_out=()))
    finally:
        place.close()


def read_tree(path: Path) -> Tree:
    if path.is_file():
        return {"": path.read_bytes()}
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def read(url: str) -> Tree | None:
    """What our readers see; None where they see that there is nothing."""
    try:
        return read_tree(fetch(url))
    except ArgumentError:
        return None


def list_raw(url: str) -> Tree:
    """What readers see that know nothing of ours."""
    store = Store(url)
    single = store.read("") if store.is_object("") else None
    objects: Tree = {name: store.read(name) or b"" for name in store.list_objects()}
    return objects if single is None else {**objects, "": single}


def prepare(former: Tree | None, new: Tree) -> int:
    """Makes the place as it was, and returns how many writes it takes to replace it."""

    def make() -> None:
        FragileFileSystem.store.clear()
        FragileFileSystem.pseudo_dirs[:] = [""]
        if former is not None:
            publish(former, URL)

    make()
    with failing(range(0)) as store:
        publish(new, URL)
        count = store.done
    make()
    return count


def forget_claims() -> None:
    """Spares the time that it takes to see that their holder is dead."""
    for name in [name for name in FragileFileSystem.store if ".exporter-claim-" in name]:
        del FragileFileSystem.store[name]


def interrupt(former: Tree | None, new: Tree, moment: int, lasts: int) -> None:
    """Loses the store in the middle of a replacement, and looks at what readers see, then and after the next export."""
    assert read(URL) == former
    with failing(range(moment, moment + lasts)):
        ended = False
        with suppress(ExportError):
            publish(new, URL)
            ended = True
    forget_claims()
    seen = read(URL)
    assert seen in (former, new)
    assert not ended or seen == new
    if lasts == 1 and not ended:  # the store was there again
        assert seen == former
        assert list_raw(URL) == (former or {})
    publish(new, URL)
    assert read(URL) == list_raw(URL) == new
    beside = {name for name in Store("fragile://bucket/models").list_objects() if not name.startswith("model/")}
    assert beside - {"model"} == {"model.receipt.json"}


@pytest.mark.parametrize("lasts", [pytest.param(1, id="for a moment"), pytest.param(1000, id="for ever")])
@pytest.mark.parametrize(
    ("former", "new"),
    [
        pytest.param(None, {"saved_model.pb": b"2", "variables/x": b"2"}, id="nothing"),
        pytest.param(
            {"saved_model.pb": b"1", "variables/x": b"1", "assets/old": b"1"},
            {"saved_model.pb": b"2", "variables/x": b"2"},
            id="a directory",
        ),
        pytest.param({"": b"1"}, {"": b"2"}, id="a file"),
    ],
)
def test_a_store_that_is_lost_at_any_moment_costs_no_artifact(former: Tree | None, new: Tree, lasts: int) -> None:
    for moment in range(prepare(former, new)):
        prepare(former, new)
        interrupt(former, new, moment, lasts)


@settings(max_examples=40, deadline=None)
@given(former=st.none() | TREES, new=TREES, moment=st.integers(0, 1000), lasts=st.sampled_from([1, 1000]))
def test_names_of_any_kind_are_placed_whatever_happens(former: Tree | None, new: Tree, moment: int, lasts: int) -> None:
    if former is not None and ("" in former) != ("" in new):
        former = None  # a directory is not replaced by a file
    interrupt(former, new, moment % prepare(former, new), lasts)


def test_a_copy_that_goes_wrong_inside_the_store_is_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(None, {"": b"1"})

    def copy_wrongly(store: FragileFileSystem, path: str, to: str, **kwargs: object) -> None:
        store.pipe_file(to, b"wrong")

    monkeypatch.setattr(FragileFileSystem, "cp_file", copy_wrongly)
    publish({"saved_model.pb": b"12345", "x": b"12345"}, URL)
    assert list_raw(URL) == {"saved_model.pb": b"12345", "x": b"12345"}


def test_a_store_that_holds_other_bytes_than_it_was_sent_keeps_the_former_artifact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    former = {"saved_model.pb": b"1", "x": b"1"}
    prepare(former, former)
    send = FragileFileSystem.put_file

    def send_wrongly(store: FragileFileSystem, file: str, to: str, **kwargs: object) -> None:
        send(store, file, to)
        if to.endswith("/model/x"):
            store.pipe_file(to, b"wrong")

    def copy_wrongly(store: FragileFileSystem, path: str, to: str, **kwargs: object) -> None:
        store.pipe_file(to, store.cat_file(path) if ".exporter-former" in path + to else b"wrong")

    monkeypatch.setattr(FragileFileSystem, "put_file", send_wrongly)
    monkeypatch.setattr(FragileFileSystem, "cp_file", copy_wrongly)
    with pytest.raises(ExportError) as refused:
        publish({"saved_model.pb": b"2", "x": b"2"}, URL)
    assert str(refused.value) == (
        "fragile://bucket/models/model/x does not have the bytes that were sent (sha256 "
        "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35), and was removed. Export it again: what has "
        "arrived is not sent twice."
    )
    assert read(URL) == list_raw(URL) == former


def test_what_could_not_be_put_back_is_named() -> None:
    former, new = {"saved_model.pb": b"1"}, {"saved_model.pb": b"2"}
    middle = prepare(former, new) - 7
    with failing(range(middle, 1000)), pytest.raises(ExportError) as refused:
        publish(new, URL)
    assert "What was at fragile://bucket/models/model could not be put back: " in str(refused.value)
    assert str(refused.value).endswith(
        "It stands in fragile://bucket/models/.exporter-former-model/model, and the next export to this place puts it "
        "back first."
    )


def test_other_things_than_a_model_are_not_replaced() -> None:
    prepare(None, {"": b"1"})
    Store(URL).write("data/rows.csv", b"1,2")
    with pytest.raises(ArgumentError) as refused:
        publish({"saved_model.pb": b"2"}, URL)
    assert str(refused.value) == (
        f"{URL} is a directory that holds something else than a model (data/rows.csv); replacing it would delete that. "
        f"Give a path of its own, such as {URL}/model."
    )
    with pytest.raises(ArgumentError) as refused:
        publish({"": b"2"}, URL)
    assert str(refused.value) == (
        f"{URL} is a directory, and save_format='keras' writes one file. Give the name of a file, or save with "
        "save_format='tf'."
    )
    assert list_raw(URL) == {"data/rows.csv": b"1,2"}


def test_a_version_of_one_that_was_killed_is_removed_by_the_next() -> None:
    tree = {"saved_model.pb": b"1", "x": b"1"}
    layout = LayoutConfig(kind=LayoutKind.TF_SERVING, warmup=False)
    prepare(None, tree)
    versions = "fragile://bucket/versions"
    publish(tree, versions, layout=layout)
    with failing(range(9, 1000)), pytest.raises(ExportError):
        publish({"saved_model.pb": b"2", "x": b"2"}, versions, layout=layout)
    assert {"2/x", ".exporter-claim-1-2", ".exporter-former-2/complete"} <= set(Store(versions).list_objects())
    publish({"saved_model.pb": b"3", "x": b"3"}, versions, layout=layout)
    assert "2/x" in Store(versions).list_objects()  # it may still be written
    FragileFileSystem.store["/bucket/versions/.exporter-claim-1-2"].modified -= timedelta(minutes=2)
    publish({"saved_model.pb": b"4", "x": b"4"}, versions, layout=layout)
    names = {name.split("/")[0] for name in Store(versions).list_objects()}
    assert {name for name in names if name.isdigit()} == {"1", "3", "4"}
    assert not [name for name in names if "claim" in name or "former" in name]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with serve_objects() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        fsspec.filesystem("s3").mkdir("races")
        yield "s3://races"
        S3FileSystem.clear_instance_cache()


def race(program: str, count: int) -> None:
    """Runs a program in several processes at once; it knows its number."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", f"number = {number}\n{program}"], env=environment)
        for number in range(count)
    ]
    assert [process.wait(timeout=1500) for process in processes] == [0] * count


@pytest.mark.xdist_group("stores")
def test_processes_that_race_mix_no_version_and_no_artifact(bucket: str) -> None:
    program = """
from exporter.config import LayoutConfig, LayoutKind
from exporting.test_remote_layouts import publish
for turn in range(2):
    content = f"{number} {turn}".encode()
    tree = {"saved_model.pb": content, "variables/x": content, f"assets/{number}": content}
    publish(tree, "s3://races/versions", layout=LayoutConfig(kind=LayoutKind.TF_SERVING, warmup=False))
publish(tree, "s3://races/model")
"""
    race(program, 3)
    versions = [list_raw(f"{bucket}/versions/{number}") for number in range(1, 7)]
    assert [len(set(version.values())) for version in versions] == [1] * 6
    assert {version["saved_model.pb"] for version in versions} == {
        f"{number} {turn}".encode() for number in range(3) for turn in range(2)
    }
    model = list_raw(f"{bucket}/model")
    assert len(set(model.values())) == 1
    assert len(model) == 3
    assert read(f"{bucket}/model") == model
    assert [name for name in Store(bucket).list_objects() if ".exporter-" in name] == []
