"""A model from what a recipe says about it."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentError, ExporterError, Fault, ModelError, NotAModelError, UsageError
from exporter.models.importing import import_object
from exporter.text.failures import describe_failure, locate_definition
from exporter.text.showing import describe_if_possible, describe_value

if TYPE_CHECKING:
    import keras

Fact = int | float | str


@dataclass(frozen=True, slots=True)
class Built:
    """A model that was built.

    Attributes:
        model: It.
        facts: What its source tells of it beside, such as an accuracy, by name.
    """

    model: keras.Model
    facts: Mapping[str, Fact] = field(default_factory=dict)


def build_model(model: object, seed: int = 0, report: Callable[[str], None] | None = None) -> keras.Model:
    """Build the model that a recipe describes; see `build`."""
    return build(model, seed, report).model


def build(model: object, seed: int = 0, report: Callable[[str], None] | None = None) -> Built:
    """Build the model that a recipe describes.

    Args:
        model: A mapping with `_target_`, the dotted name of a function that returns a `keras.Model`, or one and its
            facts, and the function's arguments, or the dotted name of a `keras.Model`, alone; a function that is called
            without arguments; or a live `keras.Model`, which is returned as it is.
        seed: Of Python, NumPy and Keras, set before the function is called.
        report: Is given lines of text, and the last one says what was read. A function that takes a keyword `report` is
            handed one, and reports both its progress and that line; for any other, that line names the model.

    Returns:
        The model, and what its source tells of it.

    Raises:
        UsageError: The mapping has no `_target_`.
        ArgumentError: `_target_` cannot be imported or called like this, or raised an error, which is the cause; or a
            fact is neither a number nor a text.
        NotAModelError: Something else than a `keras.Model` was given or returned.
        ModelError: The function returned a model that is not built.
        ExportError: The function raised one itself.
    """
    import keras

    if isinstance(model, keras.Model):
        if report is not None:
            report(describe_if_possible(lambda: _describe(model, "given as an object")))
        return Built(model)
    if not isinstance(model, Mapping):
        if isinstance(model, type) or not callable(model):
            raise NotAModelError(
                f"`model` is {_name_kind(model)}. "
                f"Expected a keras.Model, or a mapping with `_target_`.{_find_remedy(model)}"
            )
        return _build(model, name_function(model), partial(_call, model), seed, report, frozenset())
    target = model.get("_target_")
    if not isinstance(target, str):
        expected = "Expected the dotted name of a function that returns a keras.Model, such as exporter.sources.digits."
        raise UsageError([Fault("model._target_", f"received {target!r}. {expected}")])
    from exporter.models.instantiating import instantiate  # not above: Hydra takes a while to import

    with _as_in_a_new_process(seed):  # a model that is made by the import of its module is a seeded one too
        named = import_object(target)
    if isinstance(named, keras.Model):
        return Built(_take_attribute(named, model, report))
    words = _word_call(target, model)
    return _build(named, target, partial(instantiate, model), seed, report, frozenset(map(str, model)), words)


def _build(
    function: Callable[..., object],
    target: str,
    make: Callable[..., object],
    seed: int,
    report: Callable[[str], None] | None,
    given: frozenset[str],
    words: str = "",
) -> Built:
    """Let a function make a model, as in a new process, and tell what was read.

    Args:
        function: It.
        target: Its name.
        make: Calls it, with more arguments by keyword.
        seed: See `build`.
        report: See `build`.
        given: The names of the arguments that it is called with.
        words: What is called, for the line that says what was read; empty for its name.
    """
    lines: list[str] = []

    def keep_and_report(line: str) -> None:
        lines.append(line)
        if report is not None:
            report(line)

    reporting = {"report": keep_and_report} if _takes_report(function) and "report" not in given else {}
    with _as_in_a_new_process(seed):
        returned = make(**reporting)
    built, facts = _part(returned)
    _check_returned(built, target, function)
    if not lines:
        keep_and_report(describe_if_possible(lambda: _describe(built, f"from {words or target}")))
    return Built(built, _read_facts(facts, target))


def _call(function: Callable[..., object], **extra: object) -> object:
    try:
        return function(**extra)
    except ExporterError:
        raise
    except (Exception, SystemExit) as error:  # it is code of the caller's
        raise ArgumentError(f"{name_function(function)} raised {describe_failure(error)}") from error


def name_function(function: object) -> str:
    """Name a function as its module knows it, and what is called like one by its class."""
    inner = function.func if isinstance(function, partial) else function
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _part(returned: Any) -> tuple[Any, Mapping[Any, object]]:
    """Part a model from the facts that come with it."""
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned
    return returned, {}


def _read_facts(facts: Mapping[Any, object], target: str) -> dict[str, Fact]:
    """Make plain numbers and texts of facts, which may be those of NumPy and TensorFlow.

    JSON has no number that is none, or infinite: such a fact is kept as a text.
    """
    found: dict[str, Fact] = {}
    wrong = []
    for name, given in facts.items():
        value = _read_fact(given)
        if isinstance(name, str) and name and value is not None:
            found[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
        else:
            wrong.append(f"{describe_value(name)}: {describe_value(given)}")
    if wrong:
        raise ArgumentError(
            f"`model._target_` {target} returned facts beside its model that cannot be kept. Expected names with a "
            "number or a text each. Received:",
            *(f"  {each}" for each in wrong),
        )
    return found


def _read_fact(value: Any) -> Fact | None:
    """Take the number out of an array without dimensions; None for what is neither a number nor a text."""
    if getattr(value, "shape", None) == () and hasattr(value, "__array__"):
        value = value.__array__().item()
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float | str) else None


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
        return " Let the function return only the model, or the model and a mapping of facts."
    return _find_remedy(returned)
