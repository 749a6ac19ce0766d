"""The private names that we use are there, as we know them; without those that have a public way, that way works."""

import ast
import inspect
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute.values import PerReplicaSpec

import exporter
from exporter.saving import private_api
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import collect_state, to_array

SIGNATURES = {
    "CompileMetrics": "(metrics, weighted_metrics, name='compile_metric', output_names=None)",
    "DiskIOStore": "(root_path, archive=None, mode=None)",
    "LossFunctionWrapper": "(fn, reduction='sum_over_batch_size', name=None, dtype=None, **kwargs)",
    "MeanMetricWrapper": "(fn, name=None, dtype=None, **kwargs)",
    "H5IOStore": "(path_or_io, archive=None, mode='r')",
    "ObjectSharingScope": "()",
    "RandomInitializer": "(seed=None)",
    "ResourceTracker": "()",
    "SafeModeScope": "(safe_mode=True)",
    "Tracker": "(config, exclusions=None)",
    "disable_op_determinism": "()",
    "eager_context": "()",
    "get_symbol_from_name": "(name)",
    "is_op_determinism_enabled": "()",
    "load_saved_state": (
        "(saveable, weights_store, assets_store, inner_path, skip_mismatch=False, visited_saveables=None, "
        "failed_saveables=None, error_msgs=None)"
    ),
    "load_weights_from_hdf5_group": "(group, model, skip_mismatch=False)",
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

# The attributes that are read of objects, by the kind of object; `list_objects` makes one of each.
ATTRIBUTES = {
    "layer": (
        *(
            "_call_has_training_arg",
            "_call_signature",
            "_called",
            "_dtype_policy",
            "_flatten_layers",
            "_get_own_losses",
        ),
        *("_inbound_nodes", "_layers", "_loss_ids", "_losses", "_metrics", "_non_trainable_variables", "_obj_type"),
        *("_seed_generators", "_tracked", "_tracker", "_trainable_variables"),
    ),
    "quantized layer": ("_is_quantized",),
    "model": ("_compile_config", "_flatten_metrics_in_order", "_inputs_struct", "_symbolic_build"),
    "sequential": ("_functional", "_maybe_rebuild"),
    "variable": ("_dtype", "_initialize", "_name", "_path", "_shape", "_value"),
    "optimizer": ("_distribution_strategy", "_get_variable_index", "_iterations", "_learning_rate"),
    "Nadam": ("_u_product",),
    "loss": ("_fn_kwargs",),
    "tensor": ("_keras_history",),
    "trackable": ("_gather_saveables_for_checkpoint", "_serialize_to_tensors"),
    "TensorFlow's variable": ("_shared_name",),
    "policy": ("_expand_distributed_variables",),
    "function": ("_list_all_concrete_functions",),
    "iterator": ("_element_spec",),
    "distributed values": ("_value_specs",),
    "module of strategies": ("_get_default_replica_mode", "_pop_per_thread_mode", "_push_per_thread_mode"),
}
# They are given to the object by whoever makes it: Keras reads and writes them itself.
GIVEN = {"_keras_mask"}
# Of other libraries, which `hydra_private.py` knows; and a type of Python's own.
OTHERS = {
    *("_actions", "_apply_overrides_to_config", "_instances", "_normalize_file_name", "_resolvers"),
    *("_exit", "_Hash"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_private_name_has_the_signature_that_we_know(name: str) -> None:
    assert str(inspect.signature(getattr(private_api, name))) == SIGNATURES[name]


@pytest.mark.parametrize("name", private_api.PREFERRED)
def test_a_preferred_function_has_the_signature_that_we_know(name: str) -> None:
    assert str(inspect.signature(private_api.find_preferred(name))) == PREFERRED_SIGNATURES[name]


def test_the_state_of_the_process_is_where_we_look_for_it() -> None:
    keras.layers.Dense(1)
    assert private_api.global_state.get_global_attribute("object_name_uids")["dense"] > 0
    keras.utils.set_random_seed(1)
    keras.random.uniform((1,))
    assert private_api.global_state.get_global_attribute(private_api.GLOBAL_SEED_GENERATOR) is not None


def test_variables_and_trackables_are_of_the_kinds_that_we_ask_for() -> None:
    assert isinstance(keras.Variable(1.0), private_api.BackendVariable)
    assert isinstance(tf.Variable(1.0), private_api.Trackable)
    assert issubclass(private_api.AutoTrackable, private_api.Trackable)
    assert {"_serialize_to_tensors", "_gather_saveables_for_checkpoint"} <= vars(private_api.Trackable).keys()


def test_a_scope_can_be_left_for_a_while() -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        with private_api.outside_of_scopes():
            assert not tf.distribute.has_strategy()
            assert tf.distribute.get_replica_context() is not None
        assert tf.distribute.get_strategy() is strategy


def list_objects() -> dict[str, Any]:
    inputs = keras.Input((2,))
    layer = keras.layers.Dense(1)
    model = keras.Model(inputs, layer(inputs))
    model.compile("adam", "mse")
    nadam = keras.optimizers.Nadam()
    nadam.build(model.trainable_variables)
    quantized = keras.layers.Dense(1)
    quantized.build((None, 2))
    quantized.quantize("int8")
    return {
        "layer": layer,
        "quantized layer": quantized,
        "model": model,
        "sequential": keras.Sequential([layer]),
        "variable": layer.kernel,
        "optimizer": model.optimizer,
        "Nadam": nadam,
        "loss": keras.losses.MeanSquaredError(),
        "tensor": inputs,
        "trackable": private_api.Trackable(),
        "TensorFlow's variable": tf.Variable(1.0),
        "policy": tf.saved_model.experimental.VariablePolicy.NONE,
        "function": tf.function(lambda: 1),
        "iterator": iter(tf.data.Dataset.range(1)),
        "distributed values": PerReplicaSpec(tf.TensorSpec(())),
        "module of strategies": private_api.distribute_lib,
    }


def test_objects_have_the_attributes_that_we_read() -> None:
    objects = list_objects()
    missing = [(kind, name) for kind, names in ATTRIBUTES.items() for name in names if not hasattr(objects[kind], name)]
    assert missing == []


def test_no_other_attribute_of_theirs_is_read() -> None:
    known = {name for names in ATTRIBUTES.values() for name in names} | GIVEN | OTHERS
    assert set(list_private_attributes(Path(exporter.__file__).parent)) == known


def list_private_attributes(package: Path) -> Iterator[str]:
    """Gives the attributes with an underscore that no module of ours defines, and those that Keras defines as well."""
    # A Protocol names what others have, and defines nothing.
    files = [file for file in package.rglob("*.py") if file.parent != package / "typing"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = [node for node in nodes if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)]
    own = {node.attr for node in read if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")}
    own |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.id for node in nodes if isinstance(node, ast.Name)}
    theirs = {name for names in ATTRIBUTES.values() for name in names}
    yield from (node.attr for node in read if node.attr not in own or node.attr in theirs)


@pytest.mark.parametrize("name", private_api.PREFERRED)
def test_a_function_that_is_gone_is_not_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(private_api.PREFERRED, name, "tensorflow.python.there_is_no_such_module")
    assert private_api.find_preferred(name) is None


@pytest.mark.parametrize("gone", [*private_api.PREFERRED, "all"])
def test_without_a_private_function_the_public_way_writes_the_same_model(
    gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dropout(0.5)])
    model.compile("adam", "mse")
    batch = np.arange(8, dtype="float32").reshape(2, 4)
    model.train_on_batch(batch, np.ones((2, 3)))
    expected = read_state(model)
    for name in private_api.PREFERRED if gone == "all" else [gone]:
        monkeypatch.setitem(private_api.PREFERRED, name, "tensorflow.python.there_is_no_such_module")

    contents = plan_save(SaveRequest(model, tmp_path / "model")).write(tmp_path / "model")

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


def test_the_generators_of_tensorflow_are_where_we_put_them_back() -> None:
    context = vars(private_api.eager_context())
    seed = context["_seed"]
    tf.random.set_seed(5)
    assert (context["_seed"], context["_rng"].getstate()) == (5, random.Random(5).getstate())
    tf.random.set_seed(seed)
    generator = tf.random.get_global_generator()  # it is made when somebody asks for it
    assert private_api.stateful_random_ops.global_generator is generator


def test_a_fingerprint_is_made_once_when_all_of_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's own, of the graph alone, would be made for nothing, and logs that it found no variables."""
    from tensorflow.python.saved_model import fingerprinting_utils

    write, seen = fingerprinting_utils.write_fingerprint, []

    def watch(directory: str) -> None:
        seen.append(sorted(path.name for path in Path(directory, "variables").iterdir()))
        write(directory)

    monkeypatch.setattr(fingerprinting_utils, "write_fingerprint", watch)
    exporter.save_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), tmp_path / "model")
    assert seen == [["variables.data-00000-of-00001", "variables.index"]]
    assert fingerprinting_utils.write_fingerprint is watch
