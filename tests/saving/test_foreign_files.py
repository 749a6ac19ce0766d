"""Files that stock Keras or Keras 2 wrote, and files that somebody prepared to do harm."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import exporter
from exporter.errors import ArtifactError
from exporter.saving.layout.checksums import Checksums
from exporter.saving.legacy.parts.findings import LeftOutWarning
from exporter.saving.rebuilding.model_configuration import rebuild_model
from exporter.saving.requests import LoadRequest

# Keras 2 says that HDF5 is an old format.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")

Batches = tuple[Any, Any]


@pytest.fixture
def batches() -> Batches:
    generator = np.random.default_rng(5)
    return generator.random((32, 3), "float32"), generator.random((32, 1), "float32")


def make_small_model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(1)])


KERAS_2 = tf_keras.optimizers
BEFORE_2_11 = tf_keras.optimizers.legacy


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(lambda: KERAS_2.SGD(0.1), id="sgd"),
        pytest.param(lambda: KERAS_2.SGD(0.1, momentum=0.9, nesterov=True), id="sgd_momentum"),
        pytest.param(lambda: KERAS_2.Adam(0.1, amsgrad=True), id="adam_amsgrad"),
        pytest.param(lambda: KERAS_2.Adam(0.1, use_ema=True), id="adam_ema"),
        pytest.param(lambda: KERAS_2.AdamW(0.1), id="adamw"),
        pytest.param(lambda: KERAS_2.RMSprop(0.1, momentum=0.5, centered=True), id="rmsprop"),
        pytest.param(lambda: KERAS_2.Ftrl(0.1), id="ftrl"),
        pytest.param(lambda: KERAS_2.Adamax(0.1), id="adamax"),
        pytest.param(lambda: KERAS_2.Adadelta(0.1), id="adadelta"),
        pytest.param(lambda: KERAS_2.Adagrad(0.1), id="adagrad"),
        pytest.param(lambda: KERAS_2.Lion(0.01), id="lion"),
        pytest.param(lambda: KERAS_2.Adafactor(0.01), id="adafactor"),
        pytest.param(lambda: BEFORE_2_11.SGD(0.1, momentum=0.9), id="sgd_before_2_11"),
        pytest.param(lambda: BEFORE_2_11.Adam(0.1), id="adam_before_2_11"),
        pytest.param(lambda: BEFORE_2_11.Adam(0.1, amsgrad=True), id="adam_amsgrad_before_2_11"),
        pytest.param(lambda: BEFORE_2_11.RMSprop(0.1, momentum=0.5, centered=True), id="rmsprop_before_2_11"),
        pytest.param(lambda: BEFORE_2_11.Adadelta(1.0), id="adadelta_before_2_11"),
    ],
)
def test_training_of_keras_2_goes_on(optimizer: Callable[[], Any], batches: Batches, tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(3), tf_keras.layers.Dense(1)])
    model.compile(optimizer(), "mse")
    model.fit(*batches, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.h5")

    loaded = exporter.load_model(tmp_path / "model.h5")

    assert int(loaded.optimizer.iterations) == 4
    for trained in (model, loaded):
        trained.fit(*batches, batch_size=8, shuffle=False, verbose=0)
    for expected, value in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_an_optimizer_of_keras_2_whose_state_is_not_whole_is_refused(batches: Batches, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(1)])
    model.compile(KERAS_2.Adam(0.1), "mse")
    model.fit(*batches, verbose=0)
    model.save(path)
    with h5py.File(path, "r+") as file:
        slots = file["optimizer_weights"]
        slots.attrs["weight_names"] = slots.attrs["weight_names"][:-1]

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)

    assert str(caught.value) == (
        f"{path} holds 4 optimizer variables, which do not fit Adam for this model: it has 5. "
        "Load it with compile=False and compile it anew."
    )
    assert not exporter.load_model(path, compile=False).compiled


def test_what_nadam_of_keras_2_does_not_save_is_said(batches: Batches, tmp_path: Path) -> None:
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(1)])
    model.compile(KERAS_2.Nadam(0.1), "mse")
    model.fit(*batches, verbose=0)
    model.save(tmp_path / "model.h5")

    with pytest.warns(LeftOutWarning, match=r"does not hold the product of Nadam's momenta"):
        loaded = exporter.load_model(tmp_path / "model.h5")

    assert float(loaded.optimizer._u_product) == pytest.approx(0.9 * (1 - 0.5 * 0.96))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_compiled_and_untrained_model_of_stock_keras_comes_back(
    policy: str, batches: Batches, tmp_path: Path
) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = make_small_model()
        model.compile(keras.optimizers.Adam(0.25), "mean_squared_error")
        keras.models.save_model(model, tmp_path / "model.h5")
        loaded = exporter.load_model(tmp_path / "model.h5")
    finally:
        keras.config.set_dtype_policy("float32")

    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for trained in (model, loaded):
        trained.fit(*batches, shuffle=False, verbose=0)
    for expected, value in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def point_elsewhere(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(elsewhere), "/secret")


def point_within(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file["secret"] = np.zeros((3, 3), "float32")
    file[name] = h5py.SoftLink("/secret")


def take_from_elsewhere(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file.create_dataset(name, (3, 3), "float32", external=[(str(elsewhere), 0, 36)])


def claim_too_much(file: h5py.File, name: str, elsewhere: Path) -> None:
    del file[name]
    file.create_dataset(name, (2**45,), "float32", chunks=(1024,), compression="gzip", fillvalue=0.0)


HARMS = [
    pytest.param(point_elsewhere, "Not allowed: H5 file with ExternalLink", id="external link"),
    pytest.param(point_within, "Not allowed: H5 file with SoftLink", id="soft link"),
    pytest.param(take_from_elsewhere, "Not allowed: H5 file with external Dataset", id="external storage"),
    pytest.param(claim_too_much, "refusing to load a potential decompression/shape bomb", id="shape bomb"),
]
Harm = Callable[[h5py.File, str, Path], None]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = np.ones((3, 3), "float32")
    return path


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_a_harmful_hdf5_file_is_refused(harm: Harm, reason: str, elsewhere: Path, tmp_path: Path) -> None:
    path = exporter.save_model(make_small_model(), tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        harm(file, next(iter(find_kernels(file["model_weights"]))), elsewhere)

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)

    assert str(caught.value).startswith(f"{path} is refused for ")
    assert reason in str(caught.value)


def forget_structure(metadata: bytes) -> bytes:
    """Takes the checksum out that would tell of any change, as somebody who means harm would."""
    fields = json.loads(metadata)
    checksums = Checksums.from_json(fields["exporter"]["checksums"].encode(), "the archive")
    checksums.structure = None
    fields["exporter"]["checksums"] = checksums.to_json().decode()
    return json.dumps(fields).encode()


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_harmful_weights_of_an_archive_are_refused(harm: Harm, reason: str, elsewhere: Path, tmp_path: Path) -> None:
    path = exporter.save_model(make_small_model(), tmp_path / "model.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = forget_structure(members["metadata.json"])
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        harm(file, next(iter(find_kernels(file))), elsewhere)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "model.weights.h5": weights.read_bytes()}.items():
            archive.writestr(name, content)

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)

    assert "is refused for " in str(caught.value)
    assert reason in str(caught.value)


def find_kernels(group: h5py.Group) -> list[str]:
    """Returns the absolute names of the datasets of the first layer's kernel."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == (3, 3):
            found.append(item.name)

    group.visititems(visit)
    return found


def test_an_archive_that_unpacks_to_far_more_than_it_stores_is_refused(tmp_path: Path) -> None:
    path = exporter.save_model(make_small_model(), tmp_path / "model.keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("assets/zeros", "w") as member:
        for _ in range(257):
            member.write(bytes(1 << 20))

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)

    assert str(caught.value).startswith(
        f"{path} is refused: its member 'assets/zeros' claims 269,484,032 bytes and stores "
    )


@keras.saving.register_keras_serializable(package="foreign_files")
class Scale:
    """An activation that can say what it is, but not be rebuilt."""

    def get_config(self) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any) -> Any:
        return inputs * 2


def test_the_innermost_reason_is_told(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=Scale())])
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))

    with pytest.raises(ArtifactError) as caught:
        rebuild_model(config, LoadRequest())

    told, _, advice = str(caught.value).partition(" Full object config")
    assert told == (
        "The model's configuration cannot be rebuilt: Unable to reconstruct an instance of 'Scale' because the class "
        "is missing a `from_config()` method."
    )
    assert advice.endswith(
        "Check the class that is named here, and that the `from_config` of each class rebuilds the objects that its "
        "`get_config` holds."
    )
