"""The private names that we use are there, as we know them; without those that have a public way, that way works."""

import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.saving import internals
from exporter.saving.api import plan_save
from exporter.saving.state import collect_state, to_array

SIGNATURES = {
    "CompileMetrics": "(metrics, weighted_metrics, name='compile_metric', output_names=None)",
    "LossFunctionWrapper": "(fn, reduction='sum_over_batch_size', name=None, dtype=None, **kwargs)",
    "MeanMetricWrapper": "(fn, name=None, dtype=None, **kwargs)",
    "ObjectSharingScope": "()",
    "RandomInitializer": "(seed=None)",
    "ResourceTracker": "()",
    "SafeModeScope": "(safe_mode=True)",
    "Tracker": "(config, exclusions=None)",
    "compile_args_from_training_config": "(training_config, custom_objects=None)",
    "get_symbol_from_name": "(name)",
    "load_model_from_hdf5": "(filepath, custom_objects=None, compile=True, safe_mode=True)",
    "resource_tracker_scope": "(resource_tracker)",
    "safe_get_h5_dataset": "(group, name)",
    "to_snake_case": "(name)",
}
PREFERRED_SIGNATURES = {
    "save_context": "(options)",
    "save_and_return_nodes": (
        "(obj, export_dir, signatures=None, options: tensorflow.python.saved_model.save_options.SaveOptions = None, "
        "experimental_skip_checkpoint=False)"
    ),
    "write_fingerprint": "(export_dir: str) -> None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_private_name_has_the_signature_that_we_know(name: str) -> None:
    assert str(inspect.signature(getattr(internals, name))) == SIGNATURES[name]


@pytest.mark.parametrize("name", internals.PREFERRED)
def test_a_preferred_function_has_the_signature_that_we_know(name: str) -> None:
    assert str(inspect.signature(internals.find_preferred(name))) == PREFERRED_SIGNATURES[name]


def test_the_state_of_the_process_is_where_we_look_for_it() -> None:
    keras.layers.Dense(1)
    assert internals.global_state.get_global_attribute("object_name_uids")["dense"] > 0
    keras.utils.set_random_seed(1)
    keras.random.uniform((1,))
    assert internals.global_state.get_global_attribute(internals.GLOBAL_SEED_GENERATOR) is not None


def test_variables_and_trackables_are_of_the_kinds_that_we_ask_for() -> None:
    assert isinstance(keras.Variable(1.0), internals.BackendVariable)
    assert isinstance(tf.Variable(1.0), internals.Trackable)
    assert issubclass(internals.AutoTrackable, internals.Trackable)
    assert {"_serialize_to_tensors", "_gather_saveables_for_checkpoint"} <= vars(internals.Trackable).keys()


@pytest.mark.parametrize("name", internals.PREFERRED)
def test_a_function_that_is_gone_is_not_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(internals.PREFERRED, name, "tensorflow.python.there_is_no_such_module")
    assert internals.find_preferred(name) is None


@pytest.mark.parametrize("gone", [*internals.PREFERRED, "all"])
def test_without_a_private_function_the_public_way_writes_the_same_model(
    gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dropout(0.5)])
    model.compile("adam", "mse")
    batch = np.arange(8, dtype="float32").reshape(2, 4)
    model.train_on_batch(batch, np.ones((2, 3)))
    expected = read_state(model)
    for name in internals.PREFERRED if gone == "all" else [gone]:
        monkeypatch.setitem(internals.PREFERRED, name, "tensorflow.python.there_is_no_such_module")

    contents = plan_save(model, tmp_path / "model").write(tmp_path / "model")

    without_twin = gone in ("save_and_return_nodes", "all")
    why = f"stock keras.models.load_model needs one data file, and TensorFlow {tf.__version__} writes them in its own"
    assert [left.why.startswith(why) for left in contents.left_out if left.what == "Keras twin"] == [
        True
    ] * without_twin
    assert (tmp_path / "model" / "model.weights.h5").exists() is not without_twin
    assert (tmp_path / "model" / "fingerprint.pb").exists() is not (gone in ("write_fingerprint", "all"))
    assert read_state(exporter.load_model(tmp_path / "model")) == expected
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    outputs = next(iter(served(**{next(iter(served.structured_input_signature[1])): tf.constant(batch)}).values()))
    np.testing.assert_array_equal(outputs, model(batch))


def read_state(model: keras.Model) -> dict[str, Any]:
    return {path: np.asarray(to_array(variable)).tobytes() for path, variable in collect_state(model).items()}
