"""What an artifact knows of its own bytes: every change of it is found, and every reader takes it as it is."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_receipt import RECEIPT

from exporter.artifacts.inspection.hdf5_tensors import _describe
from exporter.artifacts.manifest import check_integrity, write_manifest
from exporter.cli.commands import run_command
from exporter.errors import ArtifactError
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.names import MANIFEST
from exporter.storage.digests import record_files
from exporter.storage.sidecars import name_receipt

from .conftest import Command

pytestmark = pytest.mark.xdist_group("inspection")

Artifacts = Mapping[str, Path]


@pytest.fixture(scope="module")
def sealed(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    folder = tmp_path_factory.mktemp("sealed")
    paths = {}
    for name in ("ours", "ours.h5", "ours.keras"):
        path = folder / name
        copy(artifacts[name], path)
        assert write_manifest(path, name) == record_files(path, name)
        paths[name] = path
    return paths


def copy(source: Path, target: Path) -> Path:
    if source.is_dir():
        return Path(shutil.copytree(source, target, symlinks=True))
    return Path(shutil.copy(source, target))


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras"])
def test_what_was_not_changed_is_as_exported(name: str, sealed: Artifacts) -> None:
    integrity = check_integrity(sealed[name])
    assert integrity.mismatches == ()
    assert integrity.witnesses == (("manifest",) if name == "ours" else ("digest",))


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras"])
def test_the_seal_is_a_function_of_the_content(
    name: str, artifacts: Artifacts, sealed: Artifacts, tmp_path: Path
) -> None:
    again = copy(artifacts[name], tmp_path / name)
    assert write_manifest(again, name) == record_files(sealed[name], name)


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras"])
def test_every_reader_takes_a_sealed_artifact(name: str, artifacts: Artifacts, sealed: Artifacts) -> None:
    import keras
    import tensorflow as tf

    import exporter

    pixels = np.linspace(0, 1, 24, dtype=np.float32).reshape(3, 8)
    expected = exporter.load_model(artifacts[name]).predict(pixels, verbose=0)
    for load in (exporter.load_model, keras.models.load_model):
        np.testing.assert_array_equal(load(sealed[name]).predict(pixels, verbose=0), expected)
    if name == "ours":
        served = tf.saved_model.load(str(sealed[name])).signatures["serving_default"](tf.constant(pixels))
        np.testing.assert_allclose(served["scores"], expected, rtol=1e-5)


def follow_link(path: Path) -> None:
    content = (path / "model.weights.h5").read_bytes()
    (path / "model.weights.h5").unlink()
    (path / "model.weights.h5").write_bytes(content)


CHANGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "file added": (lambda path: (path / "notes").write_text("hm"), "notes", "was added"),
    "file lost": (lambda path: (path / "config.json").unlink(), r"config\.json", "is missing"),
    "file grown": (
        lambda path: (path / "metadata.json").write_bytes((path / "metadata.json").read_bytes() + b" "),
        r"metadata\.json",
        r"had [\d,]+ bytes and has [\d,]+",
    ),
    "link became a file": (
        follow_link,
        r"model\.weights\.h5",
        r"was a link to variables/variables\.data-00000-of-00001 and is a file",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_that_was_changed(
    change: str, sealed: Artifacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, name, message = CHANGES[change]
    path = copy(sealed["ours"], tmp_path / "ours")
    make(path)
    [mismatch] = check_integrity(path).mismatches
    assert run_command(["verify", str(path)]) == 3
    assert capsys.readouterr().err == (
        f"✗ {path} is not as it was exported, by its manifest:\n  {mismatch.path} {mismatch.message}\n"
    )
    assert re.fullmatch(name, mismatch.path)
    assert re.fullmatch(message, mismatch.message)


def test_one_changed_byte_of_any_file_of_a_directory(sealed: Artifacts, tmp_path: Path) -> None:
    path = copy(sealed["ours"], tmp_path / "ours")
    for record in record_files(path, "ours"):
        if record.link is not None or record.path == MANIFEST:
            continue
        file = path / record.path
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        [mismatch] = check_integrity(path).mismatches
        assert (mismatch.path, mismatch.message) == (record.path, "has other bytes of the same number")
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert check_integrity(path).mismatches == ()


def refuses(path: Path) -> bool:
    try:
        return bool(check_integrity(path).mismatches)
    except ArtifactError:
        return True


@pytest.mark.parametrize("name", ["ours.h5", "ours.keras"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_bit_of_a_file(name: str, sealed: Artifacts, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(sealed[name].read_bytes())
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    content[position // 8] ^= 1 << position % 8
    path = tmp_path / name
    path.write_bytes(content)
    assert refuses(path)


@pytest.mark.parametrize("name", ["ours.h5", "ours.keras"])
def test_a_file_that_was_cut_or_grew(name: str, sealed: Artifacts, tmp_path: Path) -> None:
    content = sealed[name].read_bytes()
    for number, changed in enumerate((content[:-1], content[: len(content) // 2], content + b"\n", b"")):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(changed)
        assert refuses(path)


def test_one_changed_byte_of_the_manifest(sealed: Artifacts, tmp_path: Path) -> None:
    path = copy(sealed["ours"], tmp_path / "ours")
    manifest = path / MANIFEST
    sound = manifest.read_bytes()
    for changed in (sound.replace(b'"size": ', b'"size": 1', 1), sound.replace(b"{", b"[", 1), sound[:-20]):
        manifest.write_bytes(changed)
        assert refuses(path)


def test_the_receipt_is_a_second_witness(sealed: Artifacts, tmp_path: Path) -> None:
    path = copy(sealed["ours.keras"], tmp_path / "renamed.keras")
    receipt = dataclasses.replace(RECEIPT, files=record_files(path, "ours.keras"))
    name_receipt(path).write_text(receipt.to_json(), encoding="utf-8")
    assert check_integrity(path).witnesses == ("digest", "receipt")
    assert check_integrity(path).mismatches == ()
    # Whoever seals another file in its place does not deceive the receipt.
    path.write_bytes(sealed["ours.h5"].read_bytes())
    assert [mismatch.path for mismatch in check_integrity(path).mismatches] == ["renamed.keras"]


@pytest.mark.parametrize("name", ["keras.h5", "keras.keras"])
def test_an_artifact_without_a_seal(name: str, artifacts: Artifacts, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", "--files-only", str(artifacts[name])]) == 3
    assert capsys.readouterr().err == (
        f"exporter: {artifacts[name]} says nothing of its own bytes, and there is no {name}.receipt.json beside it: it "
        "was not exported by `exporter`, or it was damaged or changed afterwards. Export it anew to have it sealed.\n"
    )


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras"])
def test_what_was_saved_is_held_against_its_checksums(
    name: str, artifacts: Artifacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy(artifacts[name], tmp_path / name)
    assert run_command(["verify", "--files-only", str(path)]) == 0
    assert capsys.readouterr().out.endswith(", every tensor and record as it was saved, by its checksums\n")
    place = max((each for each in path.rglob("*") if each.is_file()), key=measure) if path.is_dir() else path
    sound = place.read_bytes()
    # What a zip says of the dates of its members, nobody reads.
    start = sound.index(b"\x89HDF") if name == "ours.keras" else 0
    for offset in range(start, start + (len(sound) - start) // 2, max(len(sound) // 40, 1)):
        place.write_bytes(sound[:offset] + bytes([sound[offset] ^ 1]) + sound[offset + 1 :])
        assert run_command(["verify", "--files-only", str(path)]) == 3, offset
    if not path.is_dir():  # as an export that lost a part of its seal
        place.write_bytes(sound + b"\nexporter sha")
        assert run_command(["verify", "--files-only", str(path)]) == 3


def test_what_unpacks_to_more_than_is_stored_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        packed = file.create_dataset("ones", shape=(1 << 20,), dtype="float32", compression="gzip")
        packed[...] = np.float32(1)
        with pytest.raises(ArtifactError, match=r"is damaged at /ones: it claims more than is stored\.$"):
            _describe(packed, Checksums(), "ones").read()


def measure(file: Path) -> int:
    return file.stat().st_size


def test_the_command_needs_no_tensorflow(sealed: Artifacts, light_command: Command) -> None:
    folder = sealed["ours"].parent
    done = light_command("verify", "--files-only", "ours.h5", cwd=folder)
    size = sealed["ours.h5"].stat().st_size / 1000
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"✓ ours.h5: 1 file, {size:.1f} kB, all as exported, by its digest\n"
    done = light_command("verify", "absent", cwd=folder)
    assert (done.returncode, done.stderr) == (
        3,
        "exporter: There is no absent. Give the path of an artifact that was exported.\n",
    )
