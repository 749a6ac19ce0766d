"""The objects of Keras, TensorFlow and h5py have what our Protocols say of them."""

from collections.abc import Iterator
from inspect import isfunction
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute.values import PerReplicaSpec

from exporter import typing
from exporter.typing import hdf5, tensorflow
from exporter.typing import keras as protocols

# Of an object that has no mask these are not there until somebody gives it one.
GIVEN = {"_keras_mask"}


def list_protocols() -> Iterator[tuple[str, type]]:
    for module in (protocols, tensorflow, hdf5):
        for name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield f"h5py {name}" if module is hdf5 else name, value


PROTOCOLS = dict(list_protocols())


def list_members(kind: type) -> set[str]:
    bases = [base for base in kind.__mro__ if base.__module__.startswith(f"{typing.__name__}.")]
    written = {name for base in bases for name in vars(base).get("__annotations__", {})}
    return (written | {name for base in bases for name, value in vars(base).items() if isfunction(value)}) - GIVEN


@pytest.fixture(scope="module")
def objects() -> dict[str, list[Any]]:
    """One object of each kind, or several that have all of it together."""
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(1, name="dense")
    model = keras.Model(inputs, dense(inputs))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)), "mse")
    model.fit(np.zeros((2, 2)), np.zeros((2, 1)), verbose=0)
    function = tf.function(lambda x: x + 1.0, input_signature=[tf.TensorSpec((), name="x")])
    concrete = function.get_concrete_function()
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        distributed = tf.Variable(1.0)
    file = h5py.File("memory.h5", "w", driver="core", backing_store=False)
    return {
        "Variable": [dense.kernel],
        "KerasTensor": [inputs],
        "SeedGenerator": [keras.random.SeedGenerator(1)],
        "DTypePolicy": [dense.dtype_policy],
        "Metric": model.metrics[:1],
        "CallArguments": [dense._inbound_nodes[0].arguments],
        "Node": [dense._inbound_nodes[0]],
        "Tracker": [dense._tracker],
        "Layer": [dense],
        "Schedule": [model.optimizer._learning_rate],
        "Optimizer": [model.optimizer],
        "CompileConfig": [model._compile_config],
        "Model": [model, dense],  # only some kinds of layers have `enable_lora`
        "DType": [tf.float32],
        "Shape": [tf.TensorShape((1, None))],
        "Tensor": [tf.constant(1.0)],
        "TensorSpec": [tf.TensorSpec(()), PerReplicaSpec(tf.TensorSpec(()))],
        "TFVariable": [distributed, tf.Variable(1.0)],
        "Graph": [concrete.graph],
        "ConcreteFunction": [concrete],
        "TFFunction": [function],
        "VariablePolicy": [tf.saved_model.experimental.VariablePolicy.NONE],
        "SaveOptions": [tf.saved_model.SaveOptions()],
        "LookupTable": [tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)],
        "h5py Dataset": [file.create_dataset("numbers", data=[1.0])],
        "h5py Group": [file.create_group("group")],
        "h5py File": [file],
    }


@pytest.mark.parametrize(("name", "kind"), PROTOCOLS.items(), ids=PROTOCOLS)
def test_an_object_has_what_its_protocol_says(name: str, kind: type, objects: dict[str, list[Any]]) -> None:
    assert list_members(kind)
    assert {
        member for member in list_members(kind) if not any(hasattr(each, member) for each in objects[name])
    } == set()
