"""A model from what a recipe says about it."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import ArgumentError, Fault, ModelError, NotAModelError, UsageError
from exporter.models.importing import import_object
from exporter.text.failures import locate_definition
from exporter.text.showing import describe_if_possible

if TYPE_CHECKING:
    import keras


def build_model(model: object, seed: int = 0, report: Callable[[str], None] | None = None) -> keras.Model:
    """Build the model that a recipe describes.

    Args:
        model: A mapping with `_target_`, the dotted name of a function that returns a `keras.Model`, and the function's
            arguments, or the dotted name of a `keras.Model`, alone; or a live `keras.Model`, which is returned as it
            is.
        seed: Of Python, NumPy and Keras, set before the function is called.
        report: Is given lines of text, and the last one says what was read. A function that takes a keyword `report` is
            handed one, and reports both its progress and that line; for any other, that line names the model.

    Returns:
        The model.

    Raises:
        UsageError: The mapping has no `_target_`.
        ArgumentError: `_target_` cannot be imported or called like this, or raised an error, which is the cause.
        NotAModelError: Something else than a `keras.Model` was given or returned.
        ModelError: The function returned a model that is not built.
        ExportError: The function raised one itself.
    """
    import keras

    if isinstance(model, keras.Model):
        if report is not None:
            report(describe_if_possible(lambda: _describe(model, "given as an object")))
        return model
    if not isinstance(model, Mapping):
        raise NotAModelError(
            f"`model` is {_name_kind(model)}. "
            f"Expected a keras.Model, or a mapping with `_target_`.{_find_remedy(model)}"
        )
    target = model.get("_target_")
    if not isinstance(target, str):
        expected = "Expected the dotted name of a function that returns a keras.Model, such as exporter.sources.digits."
        raise UsageError([Fault("model._target_", f"received {target!r}. {expected}")])
    from exporter.models.instantiating import instantiate  # not above: Hydra takes a while to import

    with _as_in_a_new_process(seed):  # a model that is made by the import of its module is a seeded one too
        named = import_object(target)
    if isinstance(named, keras.Model):
        return _take_attribute(named, model, report)
    lines: list[str] = []

    def keep_and_report(line: str) -> None:
        lines.append(line)
        if report is not None:
            report(line)

    reporting = {"report": keep_and_report} if _takes_report(named) and "report" not in model else {}
    with _as_in_a_new_process(seed):
        built = instantiate(model, **reporting)
    _check_returned(built, target, named)
    if not lines:
        keep_and_report(describe_if_possible(lambda: _describe(built, f"from {_word_call(target, model)}")))
    return built


def _take_attribute(
    found: keras.Model, model: Mapping[str, object], report: Callable[[str], None] | None
) -> keras.Model:
    """Takes a model that stands in a module; it is there, so nothing can be passed to what made it."""
    given = [name for name in model if name != "_target_"]
    if given:
        raise ArgumentError(
            f"{model['_target_']} is a model and takes no arguments; received {', '.join(given)}. Leave them out, or "
            "name a function that makes the model."
        )
    if report is not None:
        report(describe_if_possible(lambda: _describe(found, f"from {model['_target_']}")))
    return found


@contextmanager
def _as_in_a_new_process(seed: int) -> Iterator[None]:
    """Lets Keras number layers and draw seeds as if nothing had been built before, and go on as before afterwards."""
    import keras

    from exporter.saving.private_api import GLOBAL_SEED_GENERATOR, global_state

    names = global_state.get_global_attribute("object_name_uids", defaultdict(int), set_to_default=True)
    kept_names = dict(names)
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    names.clear()
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        names.clear()
        names.update(kept_names)
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


def _check_returned(built: object, target: str, function: Callable[..., object]) -> None:
    import keras

    place = locate_definition(function)
    returned = f"`model._target_` {target}{f' ({place})' if place else ''} returned"
    if not isinstance(built, keras.Model):
        raise NotAModelError(f"{returned} {_name_kind(built)}. Expected a keras.Model.{_find_return_remedy(built)}")
    if not built.built:
        raise ModelError(
            f"{returned} the model {built.name!r}, which is not built: it has no weights yet. Let the function call it "
            "on a batch of data, or call `model.build(input_shape)`."
        )


def _takes_report(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some functions that are written in C do not tell their parameters
        return False
    return "report" in parameters


def _word_call(target: str, model: Mapping[str, object]) -> str:
    """Word which source was called and on what."""
    # The arguments of a function that is not ours may be secrets, and this line is kept in the receipt.
    if not target.startswith("exporter.sources."):
        return target
    given = ", ".join(f"{key}={value}" for key, value in model.items() if key != "_target_" and isinstance(value, str))
    return f"{target}({given})"


def _describe(model: keras.Model, origin: str) -> str:
    parameters = sum(math.prod(variable.shape) for variable in model.weights)
    return f"{type(model).__name__} {model.name!r}: {len(model.layers)} layers, {parameters:,} parameters; {origin}"


def _name_kind(received: object) -> str:
    """Word what was received: a class by its own name, anything else by its class's."""
    if received is None:
        return "None"
    if isinstance(received, type):
        return f"the class {received.__module__}.{received.__qualname__}"
    kind = type(received)
    return f"an object of {kind.__module__}.{kind.__qualname__}"


def _find_remedy(received: object) -> str:
    """Word what helps for the things that are most often mistaken for a model."""
    if isinstance(received, type):
        return " Name a function that makes an instance, builds it and returns it."
    packages = {ancestor.__module__.partition(".")[0] for ancestor in type(received).__mro__}
    if "tf_keras" in packages:
        return (
            " tf_keras is Keras 2, which this package does not save. Build the model with `import keras`, or save it "
            "with tf_keras as .h5 and re-export that with `model=file model.filepath=PATH`."
        )
    import tensorflow as tf

    if isinstance(received, tf.Module):
        return (
            " A tf.Module has no configuration that could be saved. Call it in a keras.layers.Layer, and that in a "
            "keras.Model, or save it with tf.saved_model.save."
        )
    return ""


def _find_return_remedy(returned: object) -> str:
    """Word what helps when a function returned something else than its model."""
    if returned is None:
        return " Let the function end with `return model`."
    if isinstance(returned, (list, tuple)):
        return " Let the function return only the model."
    return _find_remedy(returned)
