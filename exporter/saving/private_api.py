"""What we use of the private code of Keras and TensorFlow, imported here and nowhere else.

Tried with Keras 3.15 and TensorFlow 2.21, the versions that the package asks for. What is imported has no public way to
the same, so a name that is gone is an ImportError at once. What is a function below has one, and takes it where
TensorFlow lacks the private way. `tests/saving/test_internals.py` fails when a name or a signature changes.

- `AutoTrackable`, `Trackable`: the objects of a SavedModel's graph, and what they can have to say about themselves.
- `BackendVariable`, `RandomInitializer`: the kinds of what is not filled with random numbers before it is loaded.
- `BUILTIN_MODULES`, `layers_by_name`: where Keras looks for what a configuration names without its module.
- `CompileMetrics`, `Tracker`: kinds that hold metrics and variables in places of their own.
- `GLOBAL_SEED_GENERATOR`, `global_state`: the state of the process: automatic names, the global seed generator.
- `IndexLookup`, `LookupInterface`: the layers whose tables are a vocabulary, and the tables of all kinds.
- `LossFunctionWrapper`, `MeanMetricWrapper`: their configurations forget the arguments of the function inside.
- `ObjectSharingScope`, `SafeModeScope`: `keras.saving` opens them for whole files only.
- `ResourceTracker`, `resource_tracker_scope`: which tables a trace makes.
- `ResourceVariable`: the plain kind of variable, which has one handle.
- `disable_op_determinism`, `is_op_determinism_enabled`: what TensorFlow's public `enable_op_determinism` has beside it.
- `eager_context`, `stateful_random_ops`: TensorFlow's global seed, the generator of the seeds of its operations, and
  whether there is a global generator.
- `load_weights_from_hdf5_group`: the legacy layout, from an open file.
- `DiskIOStore`, `H5IOStore`, `load_saved_state`: the same of an archive.
- `find_operation`, `list_operations`: the classes behind `keras.ops`, which have no public names.
- `distribute_lib`: leaves the scope of a strategy, in which nothing can be traced for one device.
- `get_symbol_from_name`: a public name of Keras, looked up without importing what it names.
- `safe_get_h5_dataset`: Keras's own guard against links and bombs.
- `to_snake_case`: the names in Keras's addresses.

Beside these names there are attributes of objects, which are read where the object is. None has a public way to the
same, and a model cannot be saved or loaded without it; the same test names each, with the object that has it.

- of layers and models: what they consist of (`_flatten_layers`, `_layers`, `_metrics`, `_seed_generators`, `_tracker`,
  `_trainable_variables`, `_non_trainable_variables`), how they are called (`_call_has_training_arg`, `_call_signature`,
  `_inbound_nodes`, `_inputs_struct`, `_obj_type`), what a call leaves behind (`_called`, `_losses`, `_loss_ids`,
  `_tracked`, `_get_own_losses`) and how they are trained (`_compile_config`, `_flatten_metrics_in_order`,
  `_symbolic_build`);
- of layers: whether they are quantized, and their own policy where many share a map of policies (`_is_quantized`,
  `_dtype_policy`);
- of variables, optimizers, losses and metrics: names and values that have no setter (`_name`, `_path`, `_shape`,
  `_dtype`, `_value`, `_initialize`, `_iterations`, `_learning_rate`, `_fn_kwargs`,
  `_u_product`), where they lie (`_distribution_strategy`), and which slot is whose (`_get_variable_index`);
- of tensors: the layer and the mask that they come with (`_keras_history`, `_keras_mask`);
- of TensorFlow's objects: what they are saved as (`_serialize_to_tensors`, `_gather_saveables_for_checkpoint`,
  `_shared_name`, `_expand_distributed_variables`) and were traced for (`_list_all_concrete_functions`,
  `_element_spec`, `_value_specs`).
"""

import importlib
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src import layers as layers_module
from keras.src import ops as ops_module
from keras.src.api_export import get_symbol_from_name
from keras.src.backend import Variable as BackendVariable
from keras.src.backend.common import global_state
from keras.src.initializers.random_initializers import RandomInitializer
from keras.src.layers.preprocessing.index_lookup import IndexLookup
from keras.src.legacy.saving.legacy_h5_format import load_weights_from_hdf5_group
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.metrics.reduction_metrics import MeanMetricWrapper
from keras.src.models import Functional
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.saving.saving_lib import DiskIOStore, H5IOStore, safe_get_h5_dataset
from keras.src.saving.saving_lib import _load_state as load_saved_state
from keras.src.saving.serialization_lib import BUILTIN_MODULES, ObjectSharingScope, SafeModeScope
from keras.src.trainers.compile_utils import CompileMetrics
from keras.src.utils.naming import to_snake_case
from keras.src.utils.tracking import Tracker
from tensorflow.python.distribute import distribute_lib
from tensorflow.python.eager.context import context as eager_context
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled
from tensorflow.python.ops import stateful_random_ops
from tensorflow.python.ops.lookup_ops import LookupInterface
from tensorflow.python.ops.resource_variable_ops import ResourceVariable
from tensorflow.python.trackable.resource import ResourceTracker, resource_tracker_scope

from exporter.typing.tensorflow import ConcreteFunction, SaveOptions

__all__ = [
    "BUILTIN_MODULES",
    "GLOBAL_SEED_GENERATOR",
    "AutoTrackable",
    "BackendVariable",
    "CompileMetrics",
    "DiskIOStore",
    "H5IOStore",
    "IndexLookup",
    "LookupInterface",
    "LossFunctionWrapper",
    "MeanMetricWrapper",
    "ObjectSharingScope",
    "RandomInitializer",
    "ResourceTracker",
    "ResourceVariable",
    "SafeModeScope",
    "Trackable",
    "Tracker",
    "disable_op_determinism",
    "distribute_lib",
    "eager_context",
    "find_operation",
    "get_symbol_from_name",
    "global_state",
    "is_op_determinism_enabled",
    "layers_by_name",
    "list_operations",
    "load_saved_state",
    "load_weights_from_hdf5_group",
    "make_fingerprint",
    "outside_of_scopes",
    "resource_tracker_scope",
    "safe_get_h5_dataset",
    "saving_context",
    "stateful_random_ops",
    "to_snake_case",
    "write_graph",
]

Trackable = tf.__internal__.tracking.Trackable
AutoTrackable = tf.__internal__.tracking.AutoTrackable

# Those with a public way beside them, by the module that has them.
PREFERRED = {
    "save_context": "tensorflow.python.saved_model.save_context",
    "save_and_return_nodes": "tensorflow.python.saved_model.save",
    "write_fingerprint": "tensorflow.python.saved_model.fingerprinting_utils",
}


def find_preferred(name: str) -> Any:
    """Returns a private function of TensorFlow, or None if it lacks that.

    Args:
        name: One of `PREFERRED`.
    """
    try:
        return getattr(importlib.import_module(PREFERRED[name]), name, None)
    except ImportError:
        return None


def layers_by_name() -> Mapping[str, object]:
    """Returns all that Keras may take for a layer whose configuration has no module, by name."""
    models = {"Functional": Functional, "Model": keras.Model, "Sequential": keras.Sequential}
    return ChainMap(models, vars(layers_module))


def find_operation(module: str, name: str) -> Any:
    """Returns the class of an operation.

    Args:
        module: Below `keras.src.ops`, by its whole name.
        name: Of the class.

    Raises:
        AttributeError: There is none.
    """
    return getattr(getattr(ops_module, module.rpartition(".")[2]), name)


@cache
def list_operations() -> Mapping[str, type]:
    """Returns the classes of all operations by name; those of the first module where two have one name."""
    modules = [getattr(ops_module, name) for name in ("numpy", "nn", "core", "math", "image", "linalg")]
    return {
        name: value
        for module in reversed(modules)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, keras.Operation) and value.__module__ == module.__name__
    }


def saving_context(options: SaveOptions) -> AbstractContextManager[object]:
    """Tells TensorFlow that what is traced inside is for a SavedModel.

    It keeps such traces apart from others, and finds them again when it saves. Without this, which is the public way,
    it traces a second time what it saves.

    Args:
        options: Those with which the model will be saved.
    """
    save_context = find_preferred("save_context")
    context: AbstractContextManager[object] = nullcontext() if save_context is None else save_context(options)
    return context


def write_graph(
    root: object, path: Path, signatures: Mapping[str, ConcreteFunction], options: SaveOptions
) -> list[object] | None:
    """Writes the graph of a SavedModel without its variables.

    Args:
        root: The object to save.
        path: The directory.
        signatures: The endpoints, by name.
        options: As for `tf.saved_model.save`.

    Returns:
        The objects of its graph, in their order. None if nothing was written: TensorFlow can only write the graph and
        the variables together, which `tf.saved_model.save` does.
    """
    save_and_return_nodes = find_preferred("save_and_return_nodes")
    if save_and_return_nodes is None:
        return None
    with _fingerprint_later():
        nodes, _ = save_and_return_nodes(root, str(path), signatures, options, experimental_skip_checkpoint=True)
    return list(nodes)


@contextmanager
def _fingerprint_later() -> Iterator[None]:
    """Keeps TensorFlow from a fingerprint of a graph that will change, and from a warning that it has no variables."""
    if find_preferred("write_fingerprint") is None:
        yield
        return
    module: Any = importlib.import_module(PREFERRED["write_fingerprint"])
    kept = module.write_fingerprint
    module.write_fingerprint = lambda export_dir: None
    try:
        yield
    finally:
        module.write_fingerprint = kept


def make_fingerprint(path: Path) -> bool:
    """Writes the `fingerprint.pb` of a SavedModel whose graph was changed.

    Args:
        path: The directory.

    Returns:
        Whether it was written; there is no public way, and no reader needs it.
    """
    write_fingerprint = find_preferred("write_fingerprint")
    if write_fingerprint is None:
        return False
    write_fingerprint(str(path))
    return True


def tensorflow_generator() -> Any:
    """Returns the generator from which eager operations without a seed of their own draw one; None if there is none.

    TensorFlow makes it when a global seed is set.
    """
    return getattr(eager_context(), "_rng", None)


@contextmanager
def outside_of_scopes() -> Iterator[None]:
    """Lets what is done inside be done as outside of every scope of a `tf.distribute.Strategy`."""
    distribute_lib._push_per_thread_mode(distribute_lib._get_default_replica_mode())
    try:
        yield
    finally:
        distribute_lib._pop_per_thread_mode()
