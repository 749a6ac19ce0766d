"""What is written opens in the older releases of Keras that it names, and what they lack is said."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import exporter
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.errors import ModelError
from exporter.saving.compatibility.defaults import TRIED, leave_out_new_defaults
from exporter.saving.compatibility.history import OLDEST_TRIED, name_class, read_releases

RELEASES = ("3.5.0", "3.9.2", "3.14.1")

# Runs in a process whose Keras is an older one: loads, predicts, and tells the optimizer's step.
READER = """
import json, sys
import keras, numpy as np

told = {}
for path in sys.argv[2:]:
    model = keras.models.load_model(path)
    x = np.load(sys.argv[1])
    told[path] = {
        "keras": keras.__version__,
        "step": int(model.optimizer.iterations.numpy()),
        "slots": [float(np.sum(v.numpy())) for v in model.optimizer.variables[2:]],
        "y": model(x).numpy().tolist(),
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(x))
    x = keras.layers.Dropout(0.1)(keras.layers.Dense(6, kernel_regularizer="l2")(x))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.ones((8, 8, 8, 1), "float32"), np.arange(8) % 3, batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def artifacts(trained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    names = {"h5": "model.h5", "keras": "model.keras", "directory": "model"}
    return {kind: exporter.save_model(trained, folder / name) for kind, name in names.items()}


@pytest.fixture(scope="module")
def old_keras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with older releases of Keras, which go before the installed one."""
    folder = tmp_path_factory.mktemp("releases")
    for release in RELEASES:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        place = folder / release
        subprocess.run([*command, "--target", place, f"keras=={release}"], check=True, capture_output=True)
    return {release: folder / release for release in RELEASES}


@pytest.mark.parametrize("release", RELEASES)
def test_older_releases_open_what_is_written(
    release: str, old_keras: dict[str, Path], artifacts: dict[str, Path], trained: keras.Model, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    paths = [str(artifacts["h5"]), str(artifacts["keras"]), str(zip_directory(artifacts["directory"], tmp_path))]
    done = subprocess.run(
        [sys.executable, "-c", READER, tmp_path / "x.npy", *paths],
        env={**os.environ, "PYTHONPATH": str(old_keras[release])},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert list(told) == paths
    expected = trained(x).numpy()
    slots = [float(np.sum(variable.numpy())) for variable in trained.optimizer.variables[2:]]
    for path, each in told.items():
        assert each["keras"] == release
        assert each["step"] == 2
        if not path.endswith(".h5"):  # from which Keras restores none of a Functional model, whatever its release is
            assert each["slots"] == slots
        np.testing.assert_allclose(np.array(each["y"], "float32"), expected, rtol=1e-6)


def zip_directory(directory: Path, folder: Path) -> Path:
    """Makes a Keras archive of the files that stock Keras reads of a SavedModel of ours."""
    target = folder / "twin.keras"
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.write(directory / name, name)
    return target


@pytest.mark.parametrize("kind", ["h5", "keras", "directory"])
def test_an_inspection_names_the_oldest(kind: str, artifacts: dict[str, Path]) -> None:
    assert inspect_artifact(artifacts[kind]).oldest_keras == "3.5.0"


def make_new() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.RMSNormalization(), keras.layers.Dense(2, "celu")])


def test_what_an_older_release_lacks_is_an_error_whose_remedy_works(tmp_path: Path) -> None:
    target = tmp_path / "model.keras"
    options: dict[str, Any] = {"verify": {"mode": "none"}}
    with pytest.raises(ModelError) as caught:
        exporter.export(make_new(), str(target), compatibility="3.6", **options)
    assert str(caught.value).splitlines()[1:] == [
        "  keras.layers.RMSNormalization, since Keras 3.9.0",
        "  keras.activations.celu, since Keras 3.7.0",
        "Set compatibility='3.9.0', or change the model.",
    ]
    assert not target.exists()
    receipt = exporter.export(make_new(), str(target), compatibility="3.9.0", **options)
    assert receipt.oldest_keras == "3.9.0"


def list_classes() -> list[str]:
    """Lists the classes that got arguments after the first release, by their public names."""
    known = read_releases().since
    return [
        name
        for name in known
        if name.startswith(TRIED) and any(known[name]) and _find(name) is not None and _find(name) not in OTHERS
    ]


def test_an_artifact_that_no_keras_opens_is_refused_where_one_has_to(trained: keras.Model, tmp_path: Path) -> None:
    sharded: dict[str, Any] = {
        "options": {"experimental_sharding_callback": {"policy": "max_shard_size", "max_shard_size": 64}},
        "verify": {"mode": "none"},
    }
    with pytest.raises(ModelError) as caught:
        exporter.export(trained, str(tmp_path / "model"), compatibility="3.9", **sharded)
    first, why, remedy = str(caught.value).splitlines()
    assert first == "No Keras opens this artifact, and compatibility='3.9' asks for one; nothing was published."
    assert why.startswith("  stock keras.models.load_model needs one data file, and experimental_sharding_callback")
    assert remedy == "Choose save_format='h5' or keras, or set compatibility=None."
    assert not (tmp_path / "model").exists()

    assert exporter.export(trained, str(tmp_path / "model"), **sharded).oldest_keras == ""
    assert inspect_artifact(tmp_path / "model").oldest_keras == ""
    for name in ("model.h5", "model.keras"):
        receipt = exporter.export(trained, str(tmp_path / name), compatibility="3.9", verify={"mode": "none"})
        assert receipt.oldest_keras == "3.5.0"


# Those of other backends, and those that are made of others of their kind.
OTHERS = (
    keras.layers.FlaxLayer,
    keras.layers.JaxLayer,
    keras.layers.TorchModuleWrapper,
    keras.layers.InputSpec,
    keras.optimizers.Optimizer,
)


def _find(name: str) -> Any:
    found: Any = keras
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found


# What their constructors need.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Dense": {"units": 2},
    "InputLayer": {"shape": (2,)},
    "Reshape": {"target_shape": (2,)},
    "LossScaleOptimizer": {"inner_optimizer": keras.optimizers.SGD()},
    **{f"Convolution{rank}D": {"filters": 2, "kernel_size": 3} for rank in (1, 2, 3)},
    "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 2},
    "Embedding": {"input_dim": 3, "output_dim": 2},
    "ReversibleEmbedding": {"input_dim": 3, "output_dim": 2},
    "Conv1D": {"filters": 2, "kernel_size": 3},
    "Conv2D": {"filters": 2, "kernel_size": 3},
    "Conv3D": {"filters": 2, "kernel_size": 3},
    "GRU": {"units": 2},
    "LSTM": {"units": 2},
    "MultiHeadAttention": {"num_heads": 2, "key_dim": 2},
    "GroupQueryAttention": {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
    "Resizing": {"height": 2, "width": 2},
    "CenterCrop": {"height": 2, "width": 2},
    "RandomCrop": {"height": 2, "width": 2},
    "RandomBrightness": {"factor": 0.2},
    "RandomContrast": {"factor": 0.2},
    "RandomRotation": {"factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "CategoryEncoding": {"num_tokens": 3},
}


@pytest.mark.parametrize("name", list_classes())
def test_a_class_comes_back_the_same_without_its_new_defaults(name: str) -> None:
    short = name.rpartition(".")[2]
    made = _find(name)(**ARGUMENTS.get(short, {}))
    full = keras.saving.serialize_keras_object(made)
    left = json.loads(json.dumps(full))
    leave_out_new_defaults(left)
    since = read_releases().since.get(name_class(full) or "", {})
    new = {key for key, release in since.items() if release > OLDEST_TRIED} & set(full["config"])
    # What these two are without depends on the process.
    assert new & set(left["config"]) <= {"data_format", "name"}
    again = keras.saving.deserialize_keras_object(left)
    assert again.get_config() == made.get_config()
