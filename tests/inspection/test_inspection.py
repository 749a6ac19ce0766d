"""What `exporter inspect` says of artifacts, by whomever they were written."""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.artifacts.inspection import inspect_artifact
from exporter.artifacts.inspection.comparison import compare_artifacts
from exporter.cli.commands import run_command
from exporter.errors import ArtifactError, ExporterError
from exporter.saving.contents import Endpoint, Omission, Tensor
from exporter.storage.digests import record_files

from .conftest import Command

pytestmark = pytest.mark.xdist_group("inspection")

Artifacts = Mapping[str, Path]

TENSORFLOW = metadata.version("tensorflow")
KERAS = metadata.version("keras")
KERAS_2 = metadata.version("tf_keras")

NO_ENDPOINTS = "endpoints"
OURS_GROUPS = [
    ("trainable weights", 6, 54),
    ("non-trainable weights", 2, 8),
    ("optimizer", 14, 110),
    ("random state", 1, 2),
]
STOCK_GROUPS = [("weights", 8, 62), ("optimizer", 14, 110)]

CASES: dict[str, dict[str, Any]] = {
    "ours": {
        "format": "tf",
        "writer": "exporter",
        "groups": OURS_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": [],
    },
    "ours.h5": {
        "format": "h5",
        "writer": "exporter",
        "groups": OURS_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": [NO_ENDPOINTS],
    },
    "ours.keras": {
        "format": "keras",
        "writer": "exporter",
        "groups": OURS_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": [NO_ENDPOINTS],
    },
    "sharded": {
        "format": "tf",
        "writer": "exporter",
        "groups": OURS_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": ["Keras twin"],
    },
    "keras.h5": {
        "format": "h5",
        "writer": f"Keras {KERAS}",
        "groups": STOCK_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": ["random state", NO_ENDPOINTS],
    },
    "keras.keras": {
        "format": "keras",
        "writer": f"Keras {KERAS}",
        "groups": STOCK_GROUPS,
        "optimizer": ("Adam", 1),
        "missing": ["random state", NO_ENDPOINTS],
    },
    "keras.weights.h5": {
        "format": "weights",
        "writer": "Keras",
        "groups": STOCK_GROUPS,
        "optimizer": ("optimizer", 1),
        "missing": ["configuration"],
    },
    "keras_export": {
        "format": "tf",
        "writer": f"Keras 3 (model.export) with TensorFlow {TENSORFLOW}",
        "groups": [("copies of weights", 8, 62), ("weights", 9, 64)],
        "optimizer": None,
        "missing": ["configuration", "optimizer"],
    },
    "module": {
        "format": "tf",
        "writer": f"TensorFlow {TENSORFLOW}",
        "groups": [("weights", 1, 2)],
        "optimizer": None,
        "missing": ["configuration", "optimizer"],
    },
    "keras_2": {
        "format": "tf",
        "writer": f"Keras 2 with TensorFlow {TENSORFLOW}",
        "groups": [("metrics", 2, 2), ("weights", 2, 18), ("optimizer", 6, 38)],
        "optimizer": ("Adam", 1),
        "missing": [],
    },
    "keras_2.h5": {
        "format": "h5",
        "writer": f"Keras {KERAS_2}",
        "groups": [("weights", 2, 18), ("optimizer", 5, 37)],
        "optimizer": ("Adam", 1),
        "missing": [NO_ENDPOINTS],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_artifact_holds(name: str, artifacts: Artifacts) -> None:
    found = inspect_artifact(artifacts[name])
    optimizer = found.optimizer
    assert {
        "format": found.format,
        "writer": found.writer,
        "groups": [(group.name, group.tensors, group.parameters) for group in found.groups],
        "optimizer": None if optimizer is None else (optimizer.class_name, optimizer.step),
        "missing": [missing.what for missing in found.missing],
    } == CASES[name]
    assert found.files == record_files(artifacts[name], name)
    assert found.total_bytes == sum(record.size for record in found.files)
    assert found.custom == ()
    assert found.receipt is None


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras", "sharded", "keras.h5", "keras.keras"])
def test_the_architecture(name: str, artifacts: Artifacts) -> None:
    architecture = inspect_artifact(artifacts[name]).architecture
    assert architecture is not None
    assert (architecture.class_name, architecture.name) == ("Sequential", "tiny")
    assert [(layer.name, layer.class_name, layer.address, layer.parameters) for layer in architecture.layers] == [
        ("hidden", "Dense", "layers/dense", 36),
        ("drop", "Dropout", "layers/dropout", 0),
        ("norm", "BatchNormalization", "layers/batch_normalization", 16),
        ("scores", "Dense", "layers/dense_1", 10),
    ]
    assert [(item.name, item.shape, item.dtype) for item in architecture.inputs] == [("pixels", (None, 8), "float32")]


def test_every_variable_of_ours_is_named_by_its_path(artifacts: Artifacts) -> None:
    formats = [inspect_artifact(artifacts[name]).tensors for name in ("ours", "ours.h5", "ours.keras", "sharded")]
    assert all(list(tensors.items()) == list(formats[0].items()) for tensors in formats)
    stock = [inspect_artifact(artifacts[name]).tensors for name in ("keras.h5", "keras.keras", "keras.weights.h5")]
    for tensors in stock:
        assert set(tensors) == set(formats[0]) - {"layers/dropout/seed_generators/0"}


def test_the_graph(artifacts: Artifacts) -> None:
    ours = inspect_artifact(artifacts["ours"])
    pixels, scores = Tensor((None, 8), "float32"), Tensor((None, 2), "float32")
    assert ours.signatures == {"serving_default": Endpoint({"pixels": pixels}, {"scores": scores})}
    assert ours.method_names == {"serving_default": "tensorflow/serving/predict"}
    assert ours.tags == ("serve",)
    assert ours.operations["MatMul"] == 2
    assert ours.reaching_out == ()
    assert ours.options == {
        "save_debug_info": False,
        "function_aliases": {},
        "experimental_skip_saver": False,
        "experimental_sharding_callback": False,
        "extra_tags": [],
    }


def test_the_options_that_can_be_seen(artifacts: Artifacts) -> None:
    sharded = inspect_artifact(artifacts["sharded"])
    assert sharded.tags == ("serve", "gpu") or sharded.tags == ("gpu", "serve")
    assert sharded.options["experimental_sharding_callback"] is True
    assert sharded.options["extra_tags"] == ["gpu"]


def test_an_operation_that_touches_files_is_named(artifacts: Artifacts) -> None:
    assert inspect_artifact(artifacts["module"]).reaching_out == ("ReadFile",)


def test_a_class_that_keras_does_not_have(artifacts: Artifacts) -> None:
    found = inspect_artifact(artifacts["custom"])
    assert found.custom == ("tests>Scale",)
    assert found.lives_without_code


def test_why_something_is_missing(artifacts: Artifacts) -> None:
    assert inspect_artifact(artifacts["keras.keras"]).missing == (
        Omission("random state", "drop draws random numbers, so training does not go on exactly"),
        Omission("endpoints", "its format has no signatures that a server runs"),
    )


@pytest.mark.parametrize("name", ["ours", "keras.h5", "keras.keras", "keras_2"])
def test_the_command_imports_neither_tensorflow_nor_hydra(
    name: str, artifacts: Artifacts, light_command: Command
) -> None:
    done = light_command("inspect", name, "--json", cwd=artifacts[name].parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == inspect_artifact(artifacts[name]).to_json()
    assert list(json.loads(done.stdout)) == [
        *("schema_version", "path", "format", "writer", "architecture", "groups", "tensors", "optimizer"),
        *("signatures", "method_names", "tags", "options", "operations", "functions", "reaching_out", "held"),
        *("missing", "custom", "lives_without_code", "versions", "recipe", "files", "total_bytes", "receipt"),
        "oldest_keras",
        "oldest_tensorflow",
    ]


def test_the_page(artifacts: Artifacts, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["inspect", str(artifacts["custom"])]) == 0
    page = capsys.readouterr().out
    for line in (
        "custom: SavedModel, written by exporter",
        f"artifact   {artifacts['custom']}",
        "model      Sequential tiny, 5 layers",
        "           2 Dense, 1 Dropout, 1 Scale, 1 BatchNormalization",
        "tensors    trainable weights       7   58 parameters  232 B",
        "optimizer  Adam, step 1, learning rate 0.001",
        "signatures serving_default",
        "             pixels  float32 (?, 8)",
        "           → scores  float32 (?, 2)",
        "options    none that can be seen",
        "misses     nothing",
        "needs      tests>Scale; exporter.load_model needs none of their code",
        "opens in   Keras 3.5.0 and newer, TensorFlow 2.8 and newer",
    ):
        assert line in page.splitlines(), line


def corrupt_graph(path: Path) -> Path:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\xff\xff not a graph")
    return path


def cut_index(path: Path, sound: Path) -> Path:
    shutil.copytree(sound, path, symlinks=True)
    index = path / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-10])
    return path


def lose_data(path: Path, sound: Path) -> Path:
    shutil.copytree(sound, path, symlinks=True)
    (path / "variables" / "variables.data-00000-of-00001").unlink()
    return path


def cut_file(path: Path, sound: Path) -> Path:
    content = sound.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def lose_member(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    return path


def lose_variable(path: Path, sound: Path) -> Path:
    path.write_bytes(sound.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/hidden"]
    return path


def link_elsewhere(path: Path, sound: Path) -> Path:
    path.write_bytes(sound.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/hidden/tiny/hidden/kernel"]
        file["model_weights/hidden/tiny/hidden/kernel"] = h5py.ExternalLink("/etc/passwd", "/kernel")
    return path


FAULTS: dict[str, tuple[Callable[[Path, Artifacts], Path], str]] = {
    "nothing": (
        lambda folder, _: folder / "absent",
        r"There is no {path}\. Give the path of a SavedModel, an HDF5 file, a \.keras archive, a LiteRT file, an "
        r"ONNX file or an OpenVINO IR\.",
    ),
    "another directory": (
        lambda folder, _: folder,
        r"{path} is no artifact: it has no saved_model\.pb\. Expected a SavedModel directory, an HDF5 file, a "
        r"\.keras archive, a LiteRT file, an ONNX file or an OpenVINO IR directory\.",
    ),
    "another file": (
        lambda folder, _: cut_file(folder / "text", Path(__file__)),
        r"{path} is no artifact: it begins neither like an HDF5 file nor like a zip\. It is damaged, or something "
        r"else\.",
    ),
    "damaged graph": (
        lambda folder, _: corrupt_graph(folder / "saved"),
        r"{path}/saved_model\.pb is damaged: it is not a SavedModel of TensorFlow \(.*\)\.",
    ),
    "index cut off": (
        lambda folder, made: cut_index(folder / "saved", made["ours"]),
        r"{path}/variables/variables\.index is not a whole checkpoint index: the footer is missing\.",
    ),
    "data file lost": (
        lambda folder, made: lose_data(folder / "saved", made["ours"]),
        r"{path} is incomplete: variables/ lacks the data file number 0\.",
    ),
    "HDF5 cut off": (
        lambda folder, made: cut_file(folder / "cut.h5", made["ours.h5"]),
        r"{path} cannot be read: .*truncated file.*\. The artifact is damaged or incomplete\.",
    ),
    "zip cut off": (
        lambda folder, made: cut_file(folder / "cut.keras", made["ours.keras"]),
        r"{path} cannot be read: File is not a zip file\. It is damaged or incomplete\.",
    ),
    "zip without members": (
        lambda folder, _: lose_member(folder / "lost.keras"),
        r"{path} is not a whole \.keras archive: it lacks metadata\.json, model\.weights\.h5\.",
    ),
    "variable lost": (
        lambda folder, made: lose_variable(folder / "lost.h5", made["ours.h5"]),
        r"{path} is incomplete: it lacks 'layers/dense/vars/0'\.",
    ),
    "link to another file": (
        lambda folder, made: link_elsewhere(folder / "linked.h5", made["ours.h5"]),
        r"{path} is refused for 'model_weights/hidden/tiny/hidden/kernel': Not allowed: H5 file with ExternalLink\.",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_artifact(
    fault: str, tmp_path: Path, artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = FAULTS[fault]
    path = make(tmp_path, artifacts)
    with pytest.raises(ArtifactError, match=f"^{message.replace('{path}', str(path))}$"):
        inspect_artifact(path)
    assert run_command(["inspect", str(path)]) == 3
    assert capsys.readouterr().err.startswith("exporter: ")


def test_a_directory_of_versions(tmp_path: Path, artifacts: Artifacts) -> None:
    for number in (2, 10):
        (tmp_path / str(number)).symlink_to(artifacts["ours"])
    with pytest.raises(ArtifactError, match=rf"^{tmp_path} is a directory of versions; give one of them, .*/10\.$"):
        inspect_artifact(tmp_path)


def test_a_fault_in_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_command(["inspect"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "exporter: 1 fault in the command line\n"
        "  inspect: the following arguments are required: PATH\n"
        "  see exporter inspect --help\n"
    )


@pytest.mark.parametrize("name", ["ours", "ours.h5", "ours.keras", "keras.h5", "keras_2"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_a_typed_error_or_none(name: str, artifacts: Artifacts, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / name
    if path.is_dir():
        shutil.rmtree(path)
    if artifacts[name].is_dir():
        shutil.copytree(artifacts[name], path, symlinks=True)
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        file = data.draw(st.sampled_from(files), "file")
    else:
        file = Path(shutil.copy(artifacts[name], path))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 8), "bytes")):
        content[data.draw(st.integers(0, len(content) - 1), "position")] = data.draw(st.integers(0, 255), "byte")
    file.write_bytes(content)
    with contextlib.suppress(ExporterError):
        inspect_artifact(path)
        compare_artifacts(artifacts[name], path)
