"""The checkpoint index, cross-checked against TensorFlow's own reader and writer."""

import struct
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.errors import ArtifactError
from exporter.saving.layout.tensor_bundle import (
    BundleEntry,
    encode_string,
    mask_crc32c,
    name_slice,
    read_index,
    unmask_crc32c,
    write_index,
)

Array = np.ndarray[Any, np.dtype[Any]]

NUMBERS = [
    tf.float16,
    tf.bfloat16,
    tf.float32,
    tf.float64,
    tf.dtypes.experimental.float8_e4m3fn,
    tf.dtypes.experimental.float8_e5m2,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
    tf.bool,
    tf.complex64,
    tf.complex128,
]

settings.register_profile("bundle", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("bundle")


def write_bundle(prefix: Path, tensors: Mapping[str, Array | bytes]) -> dict[str, BundleEntry]:
    """Writes tensors as a bundle: our index, and a data file that is their bytes in a row."""
    data = bytearray()
    entries: dict[str, BundleEntry] = {}
    for name, value in tensors.items():
        if isinstance(value, bytes):
            content, checksum = encode_string(value)
            entries[name] = BundleEntry(tf.string.as_datatype_enum, (), len(data), len(content), checksum)
        else:
            content = value.tobytes()
            checksum = google_crc32c.value(content)
            dtype = tf.as_dtype(value.dtype).as_datatype_enum
            entries[name] = BundleEntry(dtype, value.shape, len(data), len(content), checksum)
        data += content
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    write_index(Path(f"{prefix}.index"), entries)
    return entries


def make_array(dtype: tf.DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Makes an array of random bits, without those that are no value of a bool."""
    count = int(np.prod(shape)) * np.dtype(dtype.as_numpy_dtype).itemsize
    bits = np.random.default_rng(seed).integers(0, 2 if dtype == tf.bool else 256, count, np.uint8)
    made: Array = bits.view(dtype.as_numpy_dtype).reshape(shape)
    return made


def are_same(left: Any, right: Any) -> bool:
    if isinstance(left, bytes) or isinstance(right, bytes):
        return bool(left == right)
    left, right = np.asarray(left), np.asarray(right)
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
arrays = st.builds(make_array, st.sampled_from(NUMBERS), shapes, st.integers(0, 9))
# TensorFlow's Python reader takes text; it has no key which is empty, for that is the header's.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
paths = st.lists(st.sampled_from(["layers", "dense", "dense_1", "vars", "0", "1", "Ü"]), min_size=1).map("/".join)
bundles = st.dictionaries(names | paths, arrays | st.binary(max_size=300), max_size=40)


@given(bundles)
@settings(max_examples=150)
def test_tensorflow_reads_what_we_write(tmp_path: Path, tensors: dict[str, Array | bytes]) -> None:
    written = write_bundle(tmp_path / "ours", tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert reader.get_variable_to_shape_map() == {name: list(entry.shape) for name, entry in written.items()}
    for name, value in tensors.items():
        assert are_same(reader.get_tensor(name), value)
    assert read_index(tmp_path / "ours.index") == written


@given(bundles)
@settings(max_examples=75)
def test_we_read_what_tensorflow_writes(tmp_path: Path, tensors: dict[str, Array | bytes]) -> None:
    if not tensors:
        return
    prefix = str(tmp_path / "theirs")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    entries = read_index(tmp_path / "theirs.index")
    assert list(entries) == sorted(tensors, key=str.encode)
    data = (tmp_path / "theirs.data-00000-of-00001").read_bytes()
    for name, value in tensors.items():
        entry = entries[name]
        content = data[entry.offset : entry.offset + entry.size]
        if isinstance(value, bytes):
            assert (entry.dtype, entry.shape) == (tf.string.as_datatype_enum, ())
            assert (content, entry.crc32c) == encode_string(value)
        else:
            assert (entry.dtype, entry.shape) == (tf.as_dtype(value.dtype).as_datatype_enum, value.shape)
            assert content == value.tobytes()
            assert entry.crc32c == google_crc32c.value(content)

    write_index(tmp_path / "again.index", entries)
    (tmp_path / "again.data-00000-of-00001").write_bytes(data)
    assert read_index(tmp_path / "again.index") == entries
    reader = tf.train.load_checkpoint(str(tmp_path / "again"))
    for name, value in tensors.items():
        assert are_same(reader.get_tensor(name), value)


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_every_dtype_is_read_back(tmp_path: Path, dtype: tf.DType, shape: tuple[int, ...]) -> None:
    value = make_array(dtype, shape)
    write_bundle(tmp_path / "ours", {"tensor": value})
    read = tf.raw_ops.RestoreV2(
        prefix=str(tmp_path / "ours"), tensor_names=["tensor"], shape_and_slices=[""], dtypes=[dtype]
    )[0]
    assert are_same(read.numpy(), value)


@pytest.mark.parametrize(
    "dtype", [tf.dtypes.experimental.int4, tf.dtypes.experimental.uint4], ids=lambda dtype: dtype.name
)
def test_four_bit_integers_are_read_back_one_a_byte(tmp_path: Path, dtype: tf.DType) -> None:
    value = np.arange(8).astype(dtype.as_numpy_dtype)
    write_bundle(tmp_path / "ours", {"tensor": value})
    read = tf.raw_ops.RestoreV2(
        prefix=str(tmp_path / "ours"), tensor_names=["tensor"], shape_and_slices=[""], dtypes=[dtype]
    )[0]
    assert are_same(
        tf.cast(read, tf.int8).numpy(), np.arange(8, dtype=np.int8) if dtype.name == "uint4" else value.astype(np.int8)
    )


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 3_000_000])
def test_a_string_of_any_length_is_read_back(tmp_path: Path, length: int) -> None:
    value = np.random.default_rng(0).bytes(length)
    write_bundle(
        tmp_path / "ours", {"before": np.array(1, np.float32), "text": value, "after": np.array(2, np.float32)}
    )
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert reader.get_tensor("text") == value
    assert reader.get_tensor("after") == 2


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 4_000, 20_000])
def test_many_keys_make_many_blocks(tmp_path: Path, count: int) -> None:
    tensors = {
        f"layers/functional/layers/dense_{number}/vars/0": np.array(number, np.float32) for number in range(count)
    }
    written = write_bundle(tmp_path / "ours", tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert reader.get_variable_to_shape_map() == {name: [] for name in tensors}
    for name in list(tensors)[:: max(1, count // 100)]:
        assert reader.get_tensor(name) == tensors[name]
    assert read_index(tmp_path / "ours.index") == written
    assert list(read_index(tmp_path / "ours.index")) == sorted(tensors)


@pytest.mark.parametrize("length", [1_000, 100_000, 400_000])
def test_long_names_with_a_long_shared_prefix_are_read_back(tmp_path: Path, length: int) -> None:
    tensors = {"x" * length + str(number): np.array(number, np.float32) for number in range(20)}
    written = write_bundle(tmp_path / "ours", tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert {name: reader.get_tensor(name) for name in tensors} == tensors
    assert read_index(tmp_path / "ours.index") == written


def test_names_are_sorted_by_their_bytes(tmp_path: Path) -> None:
    tensors = {
        name: np.array(ord(name[0]), np.float32) for name in ["\U0001f600", "\uffee", "é", "z", "Z", "a/b", "a", "a.b"]
    }
    write_bundle(tmp_path / "ours", tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert {name: reader.get_tensor(name) for name in tensors} == tensors
    assert list(read_index(tmp_path / "ours.index")) == ["Z", "a", "a.b", "a/b", "z", "é", "\uffee", "\U0001f600"]


def test_offsets_beyond_4_gib_are_read_back(tmp_path: Path) -> None:
    value = make_array(tf.float32, (3, 4))
    places = {"first": 0, "middle": (4 << 30) - 8, "last": (5 << 30) + 3}
    entries = {
        name: BundleEntry(tf.float32.as_datatype_enum, (3, 4), offset, 48, google_crc32c.value(value.tobytes()))
        for name, offset in places.items()
    }
    with (tmp_path / "ours.data-00000-of-00001").open("wb") as data:  # a sparse file: it takes no room
        for offset in places.values():
            data.seek(offset)
            data.write(value.tobytes())
    write_index(tmp_path / "ours.index", entries)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    for name in places:
        assert are_same(reader.get_tensor(name), value)
    assert read_index(tmp_path / "ours.index") == entries


def test_a_bundle_of_several_data_files_is_read_back(tmp_path: Path) -> None:
    values = [make_array(tf.float32, (4,), seed) for seed in range(3)]
    entries = {}
    for shard, value in enumerate(values):
        (tmp_path / f"ours.data-{shard:05}-of-00003").write_bytes(b"head" + value.tobytes())
        checksum = google_crc32c.value(value.tobytes())
        entries[f"tensor_{shard}"] = BundleEntry(tf.float32.as_datatype_enum, (4,), 4, 16, checksum, shard)
    write_index(tmp_path / "ours.index", entries, shards=3)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    for shard, value in enumerate(values):
        assert are_same(reader.get_tensor(f"tensor_{shard}"), value)
    assert read_index(tmp_path / "ours.index") == entries


def test_tensorflow_refuses_bytes_that_the_checksum_does_not_fit(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ours", {"tensor": make_array(tf.float32, (8,))})
    data = tmp_path / "ours.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours"))
    with pytest.raises(tf.errors.OpError, match="Checksum does not match"):
        reader.get_tensor("tensor")


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    entries = write_bundle(
        tmp_path / "ours", {f"tensor_{number}": np.array(number, np.float32) for number in range(100)}
    )
    write_index(tmp_path / "again.index", dict(reversed(entries.items())))
    assert (tmp_path / "ours.index").read_bytes() == (tmp_path / "again.index").read_bytes()


@given(st.integers(0, 2**32 - 1))
def test_a_mask_can_be_taken_off(checksum: int) -> None:
    assert unmask_crc32c(mask_crc32c(checksum)) == checksum
    assert 0 <= mask_crc32c(checksum) < 2**32


def make_index(folder: Path, count: int) -> bytes:
    write_bundle(
        folder / "sound", {f"layers/dense_{number}/vars/0": np.zeros((2, number % 5), "f4") for number in range(count)}
    )
    return (folder / "sound.index").read_bytes()


def read_damaged(path: Path, content: bytes) -> dict[str, BundleEntry] | None:
    """Reads a damaged index; the only error allowed is ours, soon and without much memory."""
    path.write_bytes(content)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        return read_index(path)
    except ArtifactError:
        return None
    finally:
        assert time.perf_counter() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()


@given(st.integers(0), st.integers(1, 255))
@settings(max_examples=300)
def test_a_flipped_byte_is_an_artifact_error(tmp_path: Path, place: int, bits: int) -> None:
    content = bytearray(make_index(tmp_path, 40))
    place %= len(content)
    content[place] ^= bits
    sound = read_index(tmp_path / "sound.index")
    read = read_damaged(tmp_path / "damaged.index", bytes(content))
    # What no checksum covers is the padding of the footer.
    assert read is None or (read == sound and place >= len(content) - 48)


@given(st.integers(0))
@example(0)
@example(47)
@example(48)
@settings(max_examples=100)
def test_a_truncated_index_is_an_artifact_error(tmp_path: Path, length: int) -> None:
    content = make_index(tmp_path, 40)
    assert read_damaged(tmp_path / "damaged.index", content[: length % len(content)]) is None


@given(st.binary(max_size=500))
@settings(max_examples=200)
def test_any_bytes_before_a_sound_footer_are_an_artifact_error_or_an_index(tmp_path: Path, body: bytes) -> None:
    footer = make_index(tmp_path, 3)[-48:]
    assert read_damaged(tmp_path / "damaged.index", body + footer) is None


varints = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 200), min_size=4, max_size=4)


def encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


@given(varints)
@settings(max_examples=200)
def test_a_footer_with_any_handles_is_an_artifact_error(tmp_path: Path, handles: list[int]) -> None:
    content = make_index(tmp_path, 3)
    footer = b"".join(map(encode_varint, handles))[:40].ljust(40, b"\0") + content[-8:]
    read = read_damaged(tmp_path / "damaged.index", content[:-48] + footer)
    assert read in (None, read_index(tmp_path / "sound.index"))


@st.composite
def forged_indexes(draw: st.DrawFn) -> bytes:
    """Makes an index whose checksums are right and whose content is not: what damage alone does not make."""
    body = bytearray(draw(st.binary(max_size=200)))
    if draw(st.booleans()):
        rows = draw(
            st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=20), st.binary(max_size=60)), max_size=8)
        )
        for shared, key, value in rows:
            body += b"".join(map(encode_varint, (shared, len(key), len(value)))) + key + value
    body += struct.pack("<I", draw(st.integers(0, 3) | st.integers(0, 2**32 - 1)))
    content = bytes(body) + b"\0"
    block = content + struct.pack("<I", mask_crc32c(google_crc32c.value(content)))
    footer = encode_varint(0) * 2 + encode_varint(0) + encode_varint(len(body))
    return block + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@given(forged_indexes())
@settings(max_examples=500)
def test_a_forged_index_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    assert read_damaged(tmp_path / "damaged.index", content) in (None, {})


def test_blocks_that_are_named_again_and_again_are_read_once(tmp_path: Path) -> None:
    """An index of many handles to one big block must not become a table of gigabytes."""
    content = make_index(tmp_path, 2_000)
    rows = bytearray()
    first = _first_block_handle(content)
    for number in range(5_000):
        key = struct.pack(">I", number)
        rows += encode_varint(0) + encode_varint(len(key)) + encode_varint(len(first)) + key + first
    body = bytes(rows) + struct.pack("<II", 0, 1)
    block = body + b"\0"
    block += struct.pack("<I", mask_crc32c(google_crc32c.value(block)))
    data = content[:-48]
    footer = b"\0\0" + encode_varint(len(data)) + encode_varint(len(body))
    forged = data + block + footer.ljust(40, b"\0") + content[-8:]
    assert read_damaged(tmp_path / "damaged.index", forged) is None


def _first_block_handle(content: bytes) -> bytes:
    """Returns the handle of the first data block: it begins at 0 and ends where its checksum fits."""
    for size in range(8, len(content) - 53):
        covered = content[: size + 1]
        if content[size] == 0 and content[size + 1 : size + 5] == struct.pack(
            "<I", mask_crc32c(google_crc32c.value(covered))
        ):
            return encode_varint(0) + encode_varint(size)
    raise AssertionError("the sound index has no block")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the footer is missing"),
        (b"x" * 100, "the footer is missing"),
    ],
    ids=["empty", "of another kind"],
)
def test_the_reason_is_told(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "damaged.index"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_index(path)
    assert str(caught.value) == f"{path} is not a whole checkpoint index: {reason}."


@pytest.mark.parametrize("start", [1, 63, 64, 8191, 8192, 1 << 20, 1 << 40], ids=str)
def test_the_name_of_a_slice_is_the_one_that_tensorflow_writes(start: int, tmp_path: Path) -> None:
    length = 3
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=["a tensor"],
        shape_and_slices=[f"{start + length} 2 {start},{length}:-"],
        tensors=[np.ones((length, 2), np.float32)],
    )
    index = read_index(tmp_path / "theirs.index")
    entry = index["a tensor"]
    assert entry.shape == (start + length, 2)
    assert entry.slices == (((start, length), (0, -1)),)
    part = index[name_slice("a tensor", entry.slices[0])]
    assert (part.shape, part.size) == ((length, 2), 24)
