"""What the functions of a model read and write: all of it must be state, or nothing would bring it back."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import tensorflow as tf

from exporter.errors import ModelError
from exporter.saving.graph.inputs import describe_inputs
from exporter.saving.graph.observations import find_traces
from exporter.saving.graph.signatures import kept_to_its_weights, make_call, undo_call_effects
from exporter.saving.private_api import (
    GLOBAL_SEED_GENERATOR,
    IndexLookup,
    LookupInterface,
    global_state,
    stateful_random_ops,
)
from exporter.saving.state.collecting import CAPTURED, collect, list_components
from exporter.typing.keras import Model
from exporter.typing.tensorflow import ConcreteFunction

_STEPS = ("train_function", "test_function", "predict_function")


def check_captures(model: Model) -> None:
    """Refuses a model whose functions use a variable or a table that no attribute of the model leads to.

    The model's inference is traced for that, and its call in training; the steps are looked at where the model was
    trained, evaluated or asked already.

    Args:
        model: A built model, with code from outside Keras.

    Raises:
        ModelError: There is such state; with its names and the remedies.
    """
    lost = find_lost(model, [*_trace_calls(model), *_find_steps(model)])
    refuse_unholdable(model, lost)
    if lost:
        raise ModelError(
            f"The model {model.name!r} uses variables or tables that are not attributes of the model or of its layers, "
            f"so that they cannot be restored: {explain_lost(lost)}. Keep each as an attribute of the layer or the "
            "model that uses it; or save the model with save_format='tf', where its functions hold what they use."
        )


def refuse_unholdable(model: Model, lost: Iterable[object]) -> None:
    """Refuses a model whose functions use what no format can hold.

    Args:
        model: The model.
        lost: What `find_lost` returned.

    Raises:
        ModelError: Something of it is neither a variable nor a table.
    """
    strange = [owner for owner in lost if not isinstance(owner, (tf.Variable, LookupInterface))]
    if strange:
        raise ModelError(
            f"The model {model.name!r} uses state that cannot be saved: {explain_lost(strange)}. Give the model what "
            "it gets from there as an input, or keep it in a variable."
        )


def find_lost(model: Model, functions: Iterable[ConcreteFunction]) -> list[object]:
    """Finds the resources that functions use and that are not among the state.

    Args:
        model: The model.
        functions: Concrete functions.

    Returns:
        The owners of the resources, each once: variables and tables of TensorFlow, or the bare resource of something
        else that the model's call uses, such as an iterator.
    """
    if hasattr(model, "loaded_artifact"):  # its functions use what the artifact holds that they came from
        return []
    state = collect(model)
    variables = [variable for path, variable in state.variables.items() if not path.startswith(f"{CAPTURED}/")]
    variables += model.metrics_variables
    variables += [each for layer in model._flatten_layers() for metric in layer._metrics for each in metric.variables]
    # A function that a strategy traced uses the components of its variables, one a replica.
    known = {id(part) for variable in variables for part in (variable.value, *list_components(variable.value))}
    known |= {id(variable) for variable in _find_global_generators()}
    known |= {id(table.resource) for path, table in state.tables.items() if not path.startswith(f"{CAPTURED}/")}
    lookups = [layer for layer in model._flatten_layers() if isinstance(layer, IndexLookup)]
    known |= {id(value) for layer in lookups for value in vars(layer).values() if isinstance(value, LookupInterface)}
    return [owner for owner in _find_owners(functions) if id(owner) not in known]


def _find_global_generators() -> list[object]:
    """Finds the states of the process's own generators: whoever draws from them draws at random."""
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    found = [] if generator is None else [generator.state.value]
    if stateful_random_ops.global_generator is not None:
        found.append(stateful_random_ops.global_generator.state)
    return found


def find_used(model: Model) -> list[object]:
    """Finds the resources that a model uses: in its inference, its call in training, and the steps that it took."""
    return _find_owners([*_trace_calls(model), *_find_steps(model)])


def _find_owners(functions: Iterable[ConcreteFunction]) -> list[object]:
    found: dict[int, object] = {}
    for function in functions:
        for tensor in function.captured_inputs:
            if tensor.dtype == tf.resource:
                owner = getattr(tensor, "_parent_trackable", lambda: None)()
                held = owner if isinstance(owner, (tf.Variable, LookupInterface)) else tensor
                found[id(held)] = held
    return list(found.values())


def explain_lost(lost: Iterable[object]) -> str:
    """Names resources that functions use, each once."""
    return ", ".join(dict.fromkeys(map(_describe, lost)))


def _find_steps(model: Model) -> list[ConcreteFunction]:
    """Finds the traced steps of a model; those of several replicas also use what their strategy keeps for itself."""
    if any(isinstance(variable.value, tf.distribute.DistributedValues) for variable in model.variables):
        return []
    return [step for name in _STEPS for step in find_traces(model, name)]


def _trace_calls(model: Model) -> Sequence[ConcreteFunction]:
    """Traces the model's call in inference and in training; nothing for a model that cannot be traced."""
    if getattr(model, "run_eagerly", False):
        return ()
    inputs = describe_inputs(model)
    specs = [leaf.to_spec() for leaf in inputs.leaves]
    traced = []
    for training in (False, True) if model._call_has_training_arg else (False,):
        call = tf.function(make_call(model, inputs, training), input_signature=specs, autograph=False)
        # The code is the user's, and may raise anything; the verification runs it as it is.
        with undo_call_effects(model), kept_to_its_weights(model), suppress(Exception):
            traced.append(call.get_concrete_function())
    return traced


def _describe(owner: object) -> str:
    if isinstance(owner, tf.Variable):
        return f"the variable {owner.name.partition(':')[0]!r} ({owner.dtype.name}, shape {tuple(owner.shape)})"
    if isinstance(owner, LookupInterface):
        return f"a lookup table ({type(owner).__name__})"
    return "a resource of TensorFlow that is neither a variable nor a table, such as an iterator"
