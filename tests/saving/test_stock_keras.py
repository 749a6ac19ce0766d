"""Keras's own `load_model` opens every artifact, and goes on exactly where it can hold the state."""

import re
from pathlib import Path

import keras
import pytest

from .conftest import ReadReport
from .resume_worker import compare, compare_arrays, train
from .stock_limits import CANNOT_COMPILE_FROM_HDF5, CANNOT_GO_ON, CANNOT_OPEN_HDF5, PREDICTS_SOMETHING_ELSE
from .zoo import CASES, Case
from .zoo.case import BATCH, STEPS_BEFORE

OPENED = [
    pytest.param(identity, save_format, id=f"{identity}-{save_format}")
    for identity, case in CASES.items()
    for save_format in case.stock_formats
    if save_format not in case.refused
    and not (save_format == "h5" and identity in {**CANNOT_COMPILE_FROM_HDF5, **CANNOT_OPEN_HDF5})
]
# From HDF5, Keras builds the optimizer for no variables at all, and cannot train on.
GOING_ON = [
    pytest.param(identity, save_format, id=f"{identity}-{save_format}")
    for identity, case in CASES.items()
    for save_format in case.stock_formats
    if save_format != "h5"
]


@pytest.mark.parametrize(("identity", "save_format"), OPENED)
def test_opens_and_predicts_bit_for_bit(
    identity: str, save_format: str, resumed_with_stock: Path, read_report: ReadReport
) -> None:
    expected = read_report(resumed_with_stock, identity, "make").outcome
    received = read_report(resumed_with_stock, identity, "stock", save_format).outcome
    assert len(received.predictions) == len(expected.predictions)
    if identity in PREDICTS_SOMETHING_ELSE:
        return
    for index, (first, second) in enumerate(zip(expected.predictions, received.predictions, strict=True)):
        assert compare_arrays(f"prediction {index}", first, second) == []


@pytest.mark.parametrize(("identity", "save_format"), GOING_ON)
def test_goes_on_bit_for_bit_without_random_state(
    identity: str, save_format: str, resumed_with_stock: Path, read_report: ReadReport
) -> None:
    expected = read_report(resumed_with_stock, identity, "make").outcome
    received = read_report(resumed_with_stock, identity, "stock", save_format).outcome
    held = not any("seed_generators/" in path for path in expected.state) and identity not in CANNOT_GO_ON
    differences = compare(expected.logs, received.logs) + compare(expected.continued, received.continued)
    if held:
        assert differences == []
    else:
        assert differences != [], "Keras holds this state now: the case belongs to the others"


def _save_with_stock(identity: str, path: Path) -> tuple[keras.Model, Case]:
    case = CASES[identity]
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model = case.build()
    train(model, case.data().take(0, STEPS_BEFORE * BATCH), case.before)
    keras.saving.save_model(model, path)
    return model, case


@pytest.mark.parametrize("identity", [*CANNOT_COMPILE_FROM_HDF5, *CANNOT_OPEN_HDF5])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_cannot_open_its_own_hdf5_file_either(
    identity: str, tmp_path: Path, resumed_with_stock: Path, read_report: ReadReport
) -> None:
    message = re.escape({**CANNOT_COMPILE_FROM_HDF5, **CANNOT_OPEN_HDF5}[identity])
    _save_with_stock(identity, tmp_path / "stock.h5")
    with pytest.raises(ValueError, match=message):
        keras.models.load_model(tmp_path / "stock.h5")
    with pytest.raises(pytest.fail.Exception, match=message):
        read_report(resumed_with_stock, identity, "stock", "h5")
    if identity in CANNOT_COMPILE_FROM_HDF5:
        keras.models.load_model(resumed_with_stock / identity / "model.h5", compile=False)


@pytest.mark.parametrize("identity", PREDICTS_SOMETHING_ELSE)
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_predicts_something_else_from_its_own_file_too(identity: str, tmp_path: Path) -> None:
    model, case = _save_with_stock(identity, tmp_path / "stock.keras")
    loaded = keras.models.load_model(tmp_path / "stock.keras")
    expected, received = (each.predict(case.data().x, batch_size=BATCH, verbose=0) for each in (model, loaded))
    assert compare_arrays("prediction", expected, received) != []


def test_a_random_shear_cannot_be_rebuilt_by_anyone() -> None:
    layer = keras.layers.RandomShear(0.2, 0.2)
    with pytest.raises(TypeError, match="Error when deserializing class 'RandomShear'"):
        keras.layers.RandomShear.from_config(layer.get_config())
