"""A save that fails changes nothing: not the model, not the process, not the artifact that was there."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from keras import layers

from exporter import load_model, save_model
from exporter.errors import ExportError

from .resume_worker import ARTIFACTS, compare, watch
from .zoo.case import Data, compiled, numbers


class Trap(layers.Layer):
    """A layer that a test lets fail in one of its methods, once the model is trained."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.closed = ""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def _pass(self, method: str) -> None:
        if self.closed == method:
            raise RuntimeError(f"the trap closed in {method}")

    def call(self, inputs: Any) -> Any:
        self._pass("call")
        return inputs * self.scale

    def get_config(self) -> dict[str, Any]:
        if self.closed == "get_config":
            raise NotImplementedError("the trap closed in get_config")
        config: dict[str, Any] = super().get_config()
        return config

    def save_own_variables(self, store: Any) -> None:
        self._pass("save_own_variables")
        super().save_own_variables(store)

    def save_assets(self, path: str) -> None:
        Path(path, "asset.txt").write_text("kept")
        self._pass("save_assets")

    def load_assets(self, path: str) -> None:
        Path(path, "asset.txt").read_text()


@pytest.fixture
def model() -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    parts = [layers.Dense(200, "relu"), layers.Dropout(0.1), Trap(name="trap"), layers.Dense(2)]
    made = compiled(keras.Sequential([keras.Input((3,)), *parts]))
    data = Data(numbers(3), numbers(2, seed=1))
    made.fit(data.x, data.y, batch_size=4, verbose=0)
    return made


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _list_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _fail_to_save(save: Callable[[], Any], model: keras.Model, error: type[BaseException], folder: Path) -> None:
    before, files = watch(model), _list_files(folder)
    with pytest.raises(error):
        save()
    assert compare(before, watch(model)) == []
    assert _list_files(folder) == files


FAILING = [
    pytest.param(save_format, method, error, id=f"{save_format}-{method}")
    for save_format in ARTIFACTS
    for method, error in (
        ("get_config", ExportError),
        ("save_own_variables", RuntimeError),
        ("save_assets", RuntimeError),
        ("call", RuntimeError),
    )
    if save_format == "tf" or method != "call"
    if (save_format, method) != ("tf", "get_config")  # the functions live on without a configuration
]


@pytest.mark.parametrize(("save_format", "method", "error"), FAILING)
def test_an_error_in_a_layer_leaves_everything(
    save_format: str, method: str, error: type[BaseException], model: keras.Model, tmp_path: Path
) -> None:
    target = tmp_path / ARTIFACTS[save_format]
    save_model(model, target, save_format=save_format)

    def save(path: Path) -> None:
        model.get_layer("trap").closed = method
        try:
            save_model(model, path, save_format=save_format)
        finally:
            model.get_layer("trap").closed = ""

    _fail_to_save(lambda: save(target), model, error, tmp_path)
    _fail_to_save(lambda: save(tmp_path / "new" / target.name), model, error, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("method", ["get_config", "save_own_variables", "save_assets"])
def test_an_error_in_a_layer_leaves_the_model_in_an_open_file(method: str, model: keras.Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        before = sorted(file.attrs), len(file["exporter/index"][()])
        model.get_layer("trap").closed = method
        with pytest.raises(ExportError if method == "get_config" else RuntimeError):
            save_model(model, file)
        model.get_layer("trap").closed = ""
        assert (sorted(file.attrs), len(file["exporter/index"][()])) == before
    loaded = load_model(tmp_path / "model.h5", custom_objects={"Trap": Trap})
    assert [value.tobytes() for value in loaded.get_weights()] == [value.tobytes() for value in model.get_weights()]


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_a_full_disk_leaves_everything(save_format: str, model: keras.Model, tmp_path: Path) -> None:
    target = tmp_path / ARTIFACTS[save_format]
    save_model(model, target, save_format=save_format)

    def save() -> None:
        with _file_size_limit(4096):
            save_model(model, target, save_format=save_format)

    _fail_to_save(save, model, OSError, tmp_path)
    restored = load_model(target, {"Trap": Trap})
    assert restored.optimizer.iterations == model.optimizer.iterations


def test_the_order_of_formats_makes_no_difference(model: keras.Model, tmp_path: Path) -> None:
    for number, order in enumerate((("h5", "tf", "keras"), ("keras", "h5", "tf"))):
        (tmp_path / str(number)).mkdir()
        for save_format in order:
            save_model(model, tmp_path / str(number) / ARTIFACTS[save_format], save_format=save_format)
    first, second = _list_files(tmp_path / "0"), _list_files(tmp_path / "1")
    graph = {"model/saved_model.pb", "model/fingerprint.pb"}  # TensorFlow numbers the functions of one process
    assert {name for name in first if first[name] != second.get(name)} <= graph
    assert first.keys() == second.keys()
