"""Archives that somebody prepared to do harm; and those that are only named or packed in another way, which load."""

import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import exporter
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.errors import ArtifactError
from exporter.saving.formats import keras_archive
from exporter.saving.formats.hdf5 import reading as hdf5
from exporter.saving.safety import configurations

from .conftest import Attack, copy, read_members, refuse, write_members
from .test_hostile_configurations import hide_lambda

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),
]


def add_member(name: str, mode: int = 0o644) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, str(canary))

    return attack


ARCHIVES = {
    "parent directory": (add_member("assets/../../canary"), "'assets/../../canary' lies outside of the archive."),
    "absolute path": (add_member("/tmp/canary"), "'/tmp/canary' lies outside of the archive."),
    "path of Windows": (add_member("C:\\canary"), "'C:\\\\canary' lies outside of the archive."),
    "link": (add_member("assets/link", stat.S_IFLNK | 0o777), "'assets/link' is a link."),
}


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
@pytest.mark.parametrize(("attack", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_member_that_leaves_the_archive(
    attack: Attack, message: str, original: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path
) -> None:
    path = copy(originals[original], tmp_path)
    attack(path, canary)

    assert refuse(path) == f"{path} is refused: its member {message}"
    with pytest.raises(ArtifactError, match="is refused: its member"):
        inspect_artifact(path)
    assert not canary.exists()


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
def test_a_member_that_unpacks_to_far_more_than_it_stores(
    original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals[original], tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("assets/zeros", bytes((1 << 28) + 1))

    for read in (exporter.load_model, inspect_artifact):
        with pytest.raises(ArtifactError, match=r"its member 'assets/zeros' claims 268,435,457 bytes and stores "):
            read(path)


def test_two_members_of_one_name(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["keras"], tmp_path)
    add_member("config.json")(path, tmp_path)

    assert refuse(path) == f"{path} is refused: it has two members of the name 'config.json'."


def refuse_both(path: Path) -> str:
    """Returns why an archive is neither loaded nor described."""
    message = refuse(path)
    with pytest.raises(ArtifactError) as caught:
        inspect_artifact(path)
    assert str(caught.value) == message
    return message


def pack(path: Path, method: int) -> None:
    """Packs an archive anew."""
    members = read_members(path)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def change_bytes(path: Path, old: bytes, new: bytes, at: int) -> None:
    """Changes a field of each header that begins with some bytes."""
    content = bytearray(path.read_bytes())
    place = content.find(old)
    while place >= 0:
        content[place + at : place + at + len(new)] = new
        place = content.find(old, place + 4)
    path.write_bytes(content)


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
@pytest.mark.parametrize(
    ("method", "number"),
    [pytest.param(zipfile.ZIP_BZIP2, 12, id="bzip2"), pytest.param(zipfile.ZIP_LZMA, 14, id="lzma")],
)
def test_a_method_that_no_archive_of_keras_has(
    method: int, number: int, original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals[original], tmp_path)
    pack(path, method)

    assert f"is compressed by the method {number}; only stored and deflated members are read." in refuse_both(path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        pytest.param(10, b"\x63\x00", "is compressed by the method 99;", id="method that does not exist"),
        pytest.param(8, b"\x01\x00", "is encrypted.", id="encrypted"),
        pytest.param(6, b"\xff\x00", "cannot be read: zip file version 25.5", id="version to come"),
    ],
)
def test_a_header_that_no_archive_of_keras_has(
    at: int, value: bytes, message: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    change_bytes(path, b"PK\x01\x02", value, at)

    assert message in refuse_both(path)


def test_members_that_claim_far_more_together_than_the_file_has(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"assets/{number}", b"zeros")
            archive.filelist[-1].file_size = (1 << 27) + number

    assert f"{path} is refused: its members claim " in (message := refuse_both(path))
    assert message.endswith(f" bytes together, and the file has {path.stat().st_size:,}.")


def test_a_configuration_that_is_too_long_is_not_unpacked(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["stock.keras"], tmp_path)
    pack(path, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("config.json").file_size = 1 << 27
        archive.writestr("assets/more", b"")

    assert refuse(path) == f"{path}, config.json is refused: it has 134,217,728 bytes; at most 67,108,864 are read."


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
def test_a_damaged_archive_is_no_crash(original: str, originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals[original], tmp_path)
    pack(path, zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    for cut in range(4, len(whole), len(whole) // 12):
        path.write_bytes(whole[:cut])
        assert "cannot be read" in refuse_both(path)
    for start in range(60, len(whole) - 60, len(whole) // 12):
        path.write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
        for read in (exporter.load_model, inspect_artifact):
            try:
                read(path)
            except ArtifactError:
                continue


# Content and names


def predict(model: Any) -> Any:
    return np.asarray(model(np.ones((2, 4), np.float32)))


@pytest.mark.parametrize("original", ["h5", "keras", "stock.h5", "stock.keras"])
@pytest.mark.parametrize("name", ["model", "model.zip", "model.h5", "model.keras", "model.weights.h5"])
def test_an_artifact_is_what_it_holds_and_not_what_it_is_called(
    name: str, original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(originals[original].read_bytes())

    np.testing.assert_array_equal(predict(exporter.load_model(path)), predict(exporter.load_model(originals[original])))
    assert inspect_artifact(path).format == original.removeprefix("stock.")


@pytest.mark.parametrize("original", ["keras", "stock.keras"])
def test_an_archive_that_was_packed_anew_is_loaded(
    original: str, originals: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(originals[original], tmp_path)
    pack(path, zipfile.ZIP_DEFLATED)

    np.testing.assert_array_equal(predict(exporter.load_model(path)), predict(exporter.load_model(originals[original])))
    assert inspect_artifact(path).format == "keras"


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_of_two_kinds_is_checked_as_what_it_is_loaded_as(
    name: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path
) -> None:
    hostile = copy(originals["stock.h5"], tmp_path)
    hide_lambda(hostile, canary)
    path = tmp_path / name
    # HDF5 also looks for its signature at byte 512, and a zip may begin with anything in a member.
    with h5py.File(tmp_path / "shifted", "w", userblock_size=512) as shifted, h5py.File(hostile) as source:
        for key in source:
            source.copy(key, shifted)
        for key, value in source.attrs.items():
            shifted.attrs[key] = value
    start = 30 + len("assets/0")
    members = read_members(originals["stock.keras"])
    write_members(path, {"assets/0": (tmp_path / "shifted").read_bytes()[start:], **members})
    assert h5py.is_hdf5(path)
    assert zipfile.is_zipfile(path)

    model = exporter.load_model(path)

    assert [layer.name for layer in model.layers] == ["hidden", "dropout", "scores"]
    assert type(model.layers[-1]).__name__ == "Dense"
    assert inspect_artifact(path).format == "keras"
    path.write_bytes(hostile.read_bytes() + originals["stock.keras"].read_bytes())
    assert "holds a Python lambda" in refuse(path)
    assert not canary.exists()


# Files that change while they are read


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(byte)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))  # a clock may be coarser


@pytest.mark.parametrize(
    ("original", "module", "inside"),
    [
        pytest.param("keras", keras_archive, "", id="keras"),
        pytest.param("stock.keras", keras_archive, "", id="stock archive"),
        pytest.param("h5", hdf5, "", id="h5"),
        pytest.param("stock.h5", hdf5, "", id="stock h5"),
        pytest.param("tf", keras_archive, "config.json", id="directory"),
    ],
)
def test_what_is_written_to_while_it_is_read_is_not_taken(
    original: str,
    module: Any,
    inside: str,
    originals: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = copy(originals[original], tmp_path)
    check: Callable[..., int] = module.check_hdf5

    def check_and_write(*arguments: Any) -> int:
        write_into(path / inside)
        return check(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "check_hdf5", check_and_write)
        with pytest.raises(ArtifactError) as caught:
            exporter.load_model(path)
    assert "it was written to while it was read; try again when nothing writes to it" in str(caught.value)
    assert exporter.load_model(path).name == "small"


@pytest.mark.parametrize("original", ["stock.keras", "stock.h5"])
def test_what_was_checked_is_what_is_read_when_another_file_takes_the_path(
    original: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy(originals[original], tmp_path)
    (tmp_path / "hostile").mkdir()
    hostile = copy(originals[original], tmp_path / "hostile")
    hide_lambda(hostile, canary)
    check: Callable[..., None] = configurations.check_configuration

    def check_and_replace(*arguments: Any) -> None:
        check(*arguments)
        if hostile.exists():
            hostile.replace(path)

    monkeypatch.setattr(configurations, "check_configuration", check_and_replace)
    assert "holds a Python lambda" in refuse(path)  # which is read anew, and checked anew
    assert not canary.exists()
