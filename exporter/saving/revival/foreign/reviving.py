"""A model from an endpoint, or from a traced function, of any SavedModel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.functions.records import MODEL, Parameter, Part, Unit, UnitVariable
from exporter.saving.graph.operations import load_with_operations
from exporter.saving.private_api import AutoTrackable, Trackable
from exporter.saving.rebuilding.record import StateRecord, VariableRecord
from exporter.saving.revival.calling import Untracked
from exporter.saving.revival.foreign.rewriting import rewrite
from exporter.saving.revival.foreign.traces import Trace, choose_traces, describe_endpoint, index_outputs
from exporter.saving.revival.layers import RevivedModel, make_unit_class
from exporter.saving.revival.loaded import Loaded
from exporter.text.showing import join_lines
from exporter.typing.keras import Model
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor, TFVariable


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model of a SavedModel, and what it is not.

    Attributes:
        model: The model.
        others: What of the function was traced for other inputs, in words; the model does not take them.
    """

    model: Model
    others: tuple[str, ...]


def revive_foreign(path: Path, endpoint: str, tags: Sequence[str] | None) -> Foreign:
    """Makes a model of what one SavedModel computes, for one that no Keras model can be rebuilt from.

    Args:
        path: The directory; any writer's.
        endpoint: The name of an endpoint, or of a function of the root object.
        tags: The tags of the graph; None for the only one.

    Returns:
        A model that predicts, and that trains where the function was traced for training; its variables are those
        that the function uses.

    Raises:
        ArtifactError: It cannot be loaded, or takes what no model takes.
    """
    loaded, kept = load_foreign(path, tags)
    function = loaded.signatures.get(endpoint)
    others: tuple[str, ...] = ()
    if function is not None:
        inference, training = describe_endpoint(path, endpoint, function), None
    else:
        inference, training, others = choose_traces(path, endpoint, getattr(loaded, endpoint).concrete_functions)
    functions = AutoTrackable()
    functions.inference = _make_function(inference)
    if training is not None:
        functions.training = _make_function(training)
    used = [*inference.function.variables, *(training.function.variables if training is not None else ())]
    values = {f"vars/{place}": v for place, v in enumerate({id(each): each for each in used}.values())}
    unit = _describe_unit(path.name, values, inference, training is not None)
    record = StateRecord(
        variables={place: VariableRecord(v.dtype.name, tuple(v.shape), v.trainable) for place, v in values.items()},
        trainable={"": True},
        optimizers={},
        compile_extras=None,
        assets=(),
    )
    model: Model = make_unit_class(RevivedModel, unit)(unit, Loaded({MODEL: functions}, record, values), None)
    object.__setattr__(model, "loaded_artifact", Untracked((loaded, kept)))
    # TensorFlow 1 fills all of its tables by one operation.
    initializer = getattr(loaded, "initializer", None)
    object.__setattr__(model, "loaded_resources", [initializer] if isinstance(initializer, Trackable) else [])
    return Foreign(model, others)


def _make_function(trace: Trace) -> Any:
    def infer(*values: Tensor) -> tuple[Nested[Tensor], Mapping[str, Sequence[None]]]:
        outputs = trace.call(*values)
        return outputs, {"losses": [], "masks": [None] * len(tf.nest.flatten(outputs))}

    return tf.function(infer, input_signature=[leaf.to_spec() for leaf in trace.inputs.leaves], autograph=False)


def load_foreign(path: Path, tags: Sequence[str] | None) -> tuple[Any, object]:
    """Loads a SavedModel of any age as TensorFlow does.

    Args:
        path: The directory.
        tags: The tags of the graph; None for the only one.

    Returns:
        What `tf.saved_model.load` returns, and what has to live as long.

    Raises:
        ArtifactError: It cannot be loaded.
    """
    place, kept = rewrite(path)
    try:
        chosen = None if tags is None else list(tags)
        return load_with_operations(path, lambda: tf.saved_model.load(str(place), tags=chosen)), kept
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"TensorFlow cannot load {path}: {join_lines(error)}") from error


def _describe_unit(name: str, values: Mapping[str, TFVariable], trace: Trace, trains: bool) -> Unit:
    variables = tuple(
        UnitVariable(place, own := v.name.partition(":")[0].replace("/", "_"), own, None, None)
        for place, v in values.items()
    )
    trained = tuple(place for place, v in values.items() if v.trainable)
    kept = tuple(place for place, v in values.items() if not v.trainable)
    return Unit(
        path="",
        position=(),
        needs=(),
        parts=(Part("", name, "SavedModel", True, trained, kept, (), ()),),
        variables=variables,
        parameters=(Parameter("inputs", "POSITIONAL_OR_KEYWORD", ()),),
        calls=(),
        inputs=trace.inputs.to_json(),
        outputs=index_outputs(trace.outputs),
        output_names=(),
        trains=trains,
        supports_masking=False,
        supports_jit=True,
        dtype_policy="float32",
    )
