"""A model from the endpoint of any SavedModel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from exporter.errors import ArtifactError
from exporter.saving.configuration.faults import LOAD_FAULTS
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.functions.records import MODEL, Parameter, Part, Unit, UnitVariable
from exporter.saving.graph.inputs import InputLeaf, Inputs
from exporter.saving.private_api import AutoTrackable
from exporter.saving.rebuilding.record import StateRecord, VariableRecord
from exporter.saving.revival.calling import Untracked
from exporter.saving.revival.layers import RevivedModel, make_unit_class
from exporter.saving.revival.loaded import Loaded, strange_operations_named
from exporter.text.showing import join_lines


def revive_foreign(path: Path) -> keras.Model:
    """Makes a model of a SavedModel's `serving_default`, for one that no Keras model can be rebuilt from.

    Args:
        path: The directory; any writer's.

    Returns:
        A model that predicts; its variables are those that the endpoint uses.

    Raises:
        ArtifactError: It cannot be loaded, or has no `serving_default`.
    """
    loaded, endpoint = _load_endpoint(path)
    tensors = endpoint.structured_input_signature[1]
    leaves = tuple(InputLeaf(name, tuple(spec.shape), spec.dtype.name) for name, spec in tensors.items())
    names = list(tensors)
    structure = ({"dict": {name: index for index, name in enumerate(names)}},) if len(names) > 1 else (0,)

    def infer(*values: Any) -> Any:
        outputs = endpoint(**dict(zip(names, values, strict=True)))
        return outputs, {"losses": [], "masks": [None] * len(outputs)}

    functions = AutoTrackable()
    functions.inference = tf.function(infer, input_signature=[leaf.to_spec() for leaf in leaves], autograph=False)
    values = {f"vars/{index}": variable for index, variable in enumerate(endpoint.variables)}
    unit = _describe_unit(path.name, values, Inputs(leaves, structure), endpoint.structured_outputs)
    record = StateRecord(
        variables={place: VariableRecord(v.dtype.name, tuple(v.shape), v.trainable) for place, v in values.items()},
        trainable={"": True},
        optimizers={},
        compile_extras=None,
        assets=(),
    )
    loaded_parts = Loaded({MODEL: functions}, record, values)
    model: keras.Model = make_unit_class(RevivedModel, unit)(unit, loaded_parts, None)
    object.__setattr__(model, "loaded_artifact", Untracked(loaded))
    return model


def _load_endpoint(path: Path) -> tuple[Any, Any]:
    """Loads a SavedModel, and finds the endpoint to make a model of.

    Raises:
        ArtifactError: It cannot be loaded, or has no `serving_default`.
    """
    try:
        with strange_operations_named(path):
            loaded = tf.saved_model.load(str(path))
    except ArtifactError:
        raise
    except LOAD_FAULTS as error:
        raise ArtifactError(f"TensorFlow cannot load {path}: {join_lines(error)}") from error
    endpoint = loaded.signatures.get(SERVING_DEFAULT)
    if endpoint is None:
        raise ArtifactError(
            f"{path} has no endpoint {SERVING_DEFAULT!r} to make a model of. "
            f"Its endpoints: {', '.join(loaded.signatures) or 'none'}."
        )
    return loaded, endpoint


def _describe_unit(name: str, values: Mapping[str, tf.Variable], inputs: Inputs, outputs: Mapping[str, Any]) -> Unit:
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
        inputs=inputs.to_json(),
        outputs={"dict": {key: index for index, key in enumerate(sorted(outputs))}},
        output_names=(),
        trains=False,
        supports_masking=False,
        supports_jit=True,
        dtype_policy="float32",
    )
