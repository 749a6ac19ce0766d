"""Files of weights for a model that is there already: checked like whole models, whatever they are called."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import exporter
from exporter import sources
from exporter.errors import ArgumentError, ArtifactError

from .conftest import copy, make_model, read_members, write_members
from .test_hostile_files import HDF5

pytestmark = pytest.mark.xdist_group("safety")

FILES = ["h5", "keras", "stock.h5", "stock.keras", "stock.weights.h5"]


@pytest.fixture(scope="module")
def files(originals: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Files that hold weights, by their kind; and the description of the model that they are of."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "config.json").write_bytes(read_members(originals["stock.keras"])["config.json"])
    exporter.load_model(originals["keras"]).save_weights(folder / "stock.weights.h5")
    return {**originals, "stock.weights.h5": folder / "stock.weights.h5", "config": folder / "config.json"}


def load(files: Mapping[str, Path], weights: Path) -> Any:
    return sources.architecture(str(files["config"]), str(weights))


def refuse(files: Mapping[str, Path], weights: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(files, weights)
    return str(caught.value)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["weights", "weights.h5", "weights.keras", "model.weights.h5"])
def test_a_file_is_read_as_what_it_holds(name: str, kind: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(files[kind].read_bytes())
    original = exporter.load_model(files["keras"])

    for expected, received in zip(original.weights, load(files, path).weights, strict=True):
        np.testing.assert_array_equal(expected, received)


@pytest.mark.parametrize(("attack", "message"), HDF5.values(), ids=HDF5)
def test_a_file_with_more_than_arrays(
    attack: Callable[[h5py.File], None], message: str, files: Mapping[str, Path], tmp_path: Path
) -> None:
    path = copy(files["stock.h5"], tmp_path)
    with h5py.File(path, "r+") as file:
        attack(file)

    assert refuse(files, path).startswith(f"{path} is refused for 'model_weights/")
    assert refuse(files, path).endswith(message)


def test_an_archive_with_a_member_elsewhere(files: Mapping[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    write_members(path, {**read_members(files["stock.keras"]), "../canary": b""})

    assert refuse(files, path) == f"{path} is refused: its member '../canary' lies outside of the archive."


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_a_changed_byte_of_a_weight(kind: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(files[kind], tmp_path)
    value = np.asarray(exporter.load_model(path).get_layer("hidden").kernel).tobytes()
    content = path.read_bytes()
    place = content.find(value)
    path.write_bytes(content[: place + 3] + bytes([content[place + 3] ^ 64]) + content[place + 4 :])

    assert "does not match its checksum" in refuse(files, path)


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_no_crash(kind: str, files: Mapping[str, Path], tmp_path: Path) -> None:
    whole = files[kind].read_bytes()
    path = tmp_path / "weights"
    for cut in range(8, len(whole), len(whole) // 6):
        path.write_bytes(whole[:cut])
        with pytest.raises((ArtifactError, ArgumentError)):
            load(files, path)


def test_weights_of_another_network_do_not_fit(files: Mapping[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(make_model().to_json().replace('"units": 2', '"units": 5'))

    for kind in FILES:
        with pytest.raises(ArgumentError) as caught:
            sources.architecture(str(config), str(files[kind]))
        assert str(caught.value).startswith(
            f"The weights in {str(files[kind])!r} could not be read into the model 'small': "
        )
        assert str(caught.value).endswith("Set `model.weights` to a file that was written for exactly this network.")
