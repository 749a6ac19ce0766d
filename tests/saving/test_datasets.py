"""HDF5 files that are laid out in memory and written in one pass: HDF5 reads from them what was put in."""

import io
import json
import tempfile
import zipfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import ArtifactError
from exporter.saving.formats.parts.weights_file import StoredArrays
from exporter.saving.layout.checksums import checksum_dataset, checksum_values
from exporter.saving.layout.datasets import Datasets, FileLayout, lay_out_file, write_file
from exporter.saving.layout.sparse_memory import SparseMemory
from exporter.saving.layout.structure import Structure, check_footer, make_footer
from exporter.saving.safety.zip_members import open_member
from exporter.saving.state.collecting import Array

DTYPES = (
    *("float32", "float64", "float16", "int8", "uint8", "int64", "uint64", "bool", "complex64", ">f4", ">i8"),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4),
)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
NAMES = st.lists(st.text(st.characters(exclude_characters="/.\0", codec="utf-8"), min_size=1, max_size=12), max_size=3)


def make_array(dtype: Any, shape: tuple[int, ...], seed: int) -> Array:
    """Makes an array of any bits; those of a bool are 0 and 1."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    generator = np.random.default_rng(seed)
    if kind == np.dtype("bool"):
        return generator.integers(0, 2, shape).astype(bool)
    return np.frombuffer(generator.bytes(count * kind.itemsize), kind).reshape(shape)


def fill(datasets: Datasets, arrays: dict[str, Array]) -> None:
    """Adds arrays, every other one as a copy that is made again when it is written."""
    for number, (path, array) in enumerate(arrays.items()):
        stored = datasets.add(path, array.copy if number % 2 else partial(np.asarray, array))
        assert (stored.path, stored.size, stored.dtype, stored.shape) == (path, array.nbytes, array.dtype, array.shape)


def check(file: h5py.File, arrays: dict[str, Array], datasets: Datasets) -> None:
    """Holds what HDF5 reads against the arrays, and against the checksums."""
    reader = StoredArrays(file, datasets.checksums, "the file")
    for path, array in arrays.items():
        read = reader.read(path)
        assert (read.shape, read.tobytes()) == (array.shape, array.tobytes())
        assert read.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert datasets.checksums.tensors[path] == checksum_dataset(file[path], checksum_values(array))


@settings(max_examples=40, deadline=None)
@given(
    items=st.lists(st.tuples(NAMES, st.sampled_from(DTYPES), SHAPES), max_size=8),
    attribute=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9000),
    content=st.binary(max_size=9000),
)
def test_what_is_written_is_what_was_added(
    items: list[tuple[list[str], Any, tuple[int, ...]]], attribute: str, content: bytes
) -> None:
    arrays = {
        "/".join(["tensors", *names, f"array {number}"]): make_array(dtype, shape, number)
        for number, (names, dtype, shape) in enumerate(items)
    }
    with tempfile.TemporaryDirectory() as folder, lay_out_file() as layout:
        fill(layout, arrays)
        layout.file.attrs["text"] = attribute
        layout.add_bytes("bytes", content)
        write_file(Path(folder, "file"), layout)
        with h5py.File(Path(folder, "file"), "r") as file:
            check(file, arrays, layout)
            assert file.attrs["text"] == attribute
            assert file["bytes"][()].tobytes() == content


def test_each_array_lies_at_its_offset(tmp_path: Path) -> None:
    arrays = [np.arange(count, dtype="float32") for count in (3, 5000, 1)]

    with lay_out_file() as layout:
        stored = [layout.add(f"group/{number}", partial(np.asarray, array)) for number, array in enumerate(arrays)]
        write_file(tmp_path / "file", layout)

    content = (tmp_path / "file").read_bytes()
    for place, array in zip(stored, arrays, strict=True):
        assert content[place.offset : place.offset + place.size] == array.tobytes()


def test_a_link_is_another_path_of_the_same_bytes(tmp_path: Path) -> None:
    with lay_out_file() as layout:
        stored = layout.add("first/kernel", lambda: np.ones(3, "float32"))
        layout.link("second/deep/kernel", stored)
        write_file(tmp_path / "file", layout)

    with h5py.File(tmp_path / "file", "r") as file:
        assert file["second/deep/kernel"] == file["first/kernel"]
    assert layout.checksums.tensors["second/deep/kernel"] == layout.checksums.tensors["first/kernel"]


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["a/./b/x", "a/b/y", "./a/z"], id="dots"),
        pytest.param(["a//b/x", "a/b/y", "/a/z"], id="empty parts"),
    ],
)
def test_a_group_has_as_many_paths_as_hdf5_has_for_it(tmp_path: Path, paths: list[str]) -> None:
    arrays = {path: np.full(3, number, "float32") for number, path in enumerate(paths)}
    with lay_out_file() as layout:
        fill(layout, arrays)
        write_file(tmp_path / "file", layout)

    with h5py.File(tmp_path / "file", "r") as file:
        for path, array in arrays.items():
            assert np.array_equal(file[path][()], array)
        assert sorted(file["a/b"]) == ["x", "y"]


def test_an_attribute_that_is_set_again_has_its_last_value(tmp_path: Path) -> None:
    with lay_out_file() as layout:
        for value in (np.asarray([b"kernel", b"bias"]), np.asarray([], "S1"), np.asarray([b"gamma"])):
            layout.set_attribute(layout.add_group("layer"), "weight_names", value)
            assert np.array_equal(layout.file["layer"].attrs["weight_names"], value)
        write_file(tmp_path / "file", layout)

    with h5py.File(tmp_path / "file", "r") as file:
        assert file["layer"].attrs["weight_names"].tolist() == [b"gamma"]


def test_an_open_file_takes_datasets_at_once(tmp_path: Path) -> None:
    arrays = {f"tensors/{number}": make_array(dtype, (2, 3), number) for number, dtype in enumerate(DTYPES)}

    with h5py.File(tmp_path / "file", "w") as file:
        datasets = Datasets(file)
        fill(datasets, arrays)

    with h5py.File(tmp_path / "file", "r") as file:
        check(file, arrays, datasets)


def test_a_member_of_a_zip_is_written_without_going_back(tmp_path: Path) -> None:
    array = np.arange(100_000, dtype="float64")
    with lay_out_file() as layout, zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        layout.add("numbers", lambda: array)
        with archive.open("weights", "w") as member:
            layout.write(member)

    with zipfile.ZipFile(tmp_path / "zip") as archive, h5py.File(io.BytesIO(archive.read("weights")), "r") as file:
        assert file["numbers"][()].tobytes() == array.tobytes()


def test_a_layout_takes_no_memory_for_arrays(tmp_path: Path) -> None:
    array = np.zeros(1 << 24, "float32")
    memory = SparseMemory()
    layout = FileLayout(memory)

    layout.add("numbers", lambda: array)

    assert layout.close().size > array.nbytes
    assert memory.held < 1 << 16


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")

    with lay_out_file() as layout, pytest.raises(FileExistsError):
        write_file(path, layout)

    assert path.read_text() == "mine"


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 20_000), st.binary(max_size=9_000)),
            st.tuples(st.just("read"), st.integers(0, 30_000), st.integers(0, 9_000)),
            st.tuples(st.just("truncate"), st.integers(0, 30_000), st.none()),
        ),
        max_size=12,
    )
)
def test_a_file_in_memory_is_a_file(steps: list[tuple[str, int, Any]]) -> None:
    ours = SparseMemory()
    with tempfile.TemporaryFile(buffering=0) as real:
        for act, place, argument in steps:
            for file in (ours, real):
                file.seek(place)
            match act:
                case "write":
                    assert ours.write(argument) == real.write(argument)
                case "read":
                    assert ours.read(argument) == real.read(argument)
                case "truncate":
                    assert ours.truncate(place) == real.truncate(place)
            assert ours.tell() == real.tell()
            assert ours.seek(0, io.SEEK_END) == real.seek(0, io.SEEK_END)


def write_small(path: Path) -> list[tuple[int, int]]:
    """Writes a file with a footer, and returns where its structure is."""
    with lay_out_file() as layout:
        layout.file.attrs["text"] = "value"
        layout.add("group/numbers", lambda: np.arange(3000, dtype="float32"))
        layout.add("group/empty", lambda: np.zeros((0, 3), "float32"))
        write_file(path, layout, behind=make_footer(layout.close()))
        return list(layout.close().list_gaps())


def check_file(path: Path) -> bool:
    with path.open("rb") as file:
        return check_footer(file, path)


def test_a_whole_structure_is_accepted(tmp_path: Path) -> None:
    write_small(tmp_path / "file")

    assert check_file(tmp_path / "file")
    with (tmp_path / "file").open("ab") as file:
        file.write(b"\nexporter sha256 and a digest\n")
    assert check_file(tmp_path / "file")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_of_the_structure_is_found_before_hdf5_reads_it(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        gaps = write_small(path)
        start, end = data.draw(st.sampled_from([gap for gap in gaps if gap[0] < gap[1]]))
        position = data.draw(st.integers(start, end - 1))
        content = bytearray(path.read_bytes())
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)

        with pytest.raises(ArtifactError, match=r"is damaged: the structure of its HDF5 file does not match its check"):
            check_file(path)


@pytest.mark.parametrize("cut", [1, 14, 60, 200])
def test_a_footer_that_is_cut_off_is_no_footer_or_damaged(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_small(path)
    path.write_bytes(path.read_bytes()[:-cut])

    with nullcontext() if cut > 12 else pytest.raises(ArtifactError, match="the checksum of its structure cannot be"):
        assert check_file(path) is False


def test_a_file_that_ends_too_early_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    gaps = write_small(path)
    content = path.read_bytes()
    size = gaps[-1][1]
    path.write_bytes(content[: size - 5000] + content[size:])

    with pytest.raises(ArtifactError, match=r"is damaged: (it ends after|the structure)"):
        check_file(path)


@pytest.mark.parametrize("bit", range(0, 64, 5))
def test_a_flipped_bit_of_the_address_of_the_end_is_found_too(bit: int, tmp_path: Path) -> None:
    write_small(tmp_path / "file")
    content = bytearray((tmp_path / "file").read_bytes())
    content[28 + bit // 8] ^= 1 << bit % 8
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"is damaged: the structure of its HDF5 file does not match its check"):
        check_file(tmp_path / "file")


@pytest.mark.parametrize("count", [1, 500, 3000])
def test_a_file_that_hdf5_changed_since_has_no_footer(count: int, tmp_path: Path) -> None:
    write_small(tmp_path / "file")

    with h5py.File(tmp_path / "file", "a") as file:
        file.attrs["note"] = "mine"
        file["more"] = np.zeros(count, "uint8")

    assert check_file(tmp_path / "file")


@pytest.mark.parametrize(
    "arrays", [[[10, 5], [12, 5]], [[-3, 5]], [[90, 20]], [["a", 1]], [3], None], ids=lambda arrays: json.dumps(arrays)
)
def test_a_structure_that_cannot_be_is_refused(arrays: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Structure.from_fields({"size": 100, "arrays": arrays, "crc32c": 0})


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_member_is_of_the_archive_that_was_opened(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "archive"
    for name, place in (("old", path), ("new", tmp_path / "another")):
        with zipfile.ZipFile(place, "w", compression) as archive:
            archive.writestr("before", name * 100)
            archive.writestr("member", f"the content of the {name} archive")
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        (tmp_path / "another").replace(path)
        with open_member(file, archive, "member") as member:
            assert member.read() == b"the content of the old archive"
            member.seek(19)
            assert member.read(3) == b"old"
        assert archive.read("before") == b"old" * 100  # the file is open yet
