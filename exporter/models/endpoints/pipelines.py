"""The steps before and after a method, as a recipe writes them.

A step is `{_target_: dotted.name, **arguments}`: a function of a tensor, or of a mapping of tensors where there are
several. Steps can stand in a list, one after the other, and in a mapping, each for the tensor of its name.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.config.checking import explain_unknown
from exporter.errors import ArgumentError, Fault
from exporter.models.importing import import_object
from exporter.text.failures import describe_failure
from exporter.text.showing import show
from exporter.transforms._hooks import Takes, find_takes
from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Tensor

_TARGET = "_target_"
_HYDRA_KEYS = (_TARGET, "_convert_", "_recursive_", "_partial_")


class StepError(Exception):
    """A step that cannot run; holds the fault."""

    def __init__(self, path: str, message: str) -> None:
        self.fault = Fault(path, message)
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Step:
    """One function with its arguments.

    Attributes:
        path: Its dotted config path.
        function: The function.
        arguments: Its keyword arguments.
    """

    path: str
    function: Callable[..., Any]
    arguments: Mapping[str, object]

    @property
    def takes(self) -> Takes:
        """What is noted on the function."""
        return find_takes(self.function) or Takes()


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps that run one after the other."""

    steps: tuple["Pipeline", ...]


@dataclass(frozen=True, slots=True)
class ByName:
    """Steps for some of several tensors, by name; the other tensors pass."""

    path: str
    entries: Mapping[str, "Pipeline"]


Pipeline = Step | Chain | ByName


def check_pipeline(value: object, path: str) -> list[Fault]:
    """Checks the form of the steps, without importing what they name.

    Args:
        value: What the recipe says.
        path: Its dotted path.
    """
    if callable(value):
        return []
    if isinstance(value, list):
        return [fault for index, item in enumerate(value) for fault in check_pipeline(item, f"{path}[{index}]")]
    if not isinstance(value, Mapping):
        remedy = "expected a step {_target_: ...}, a list of steps, or a mapping name -> steps"
        return [Fault(path, f"received {show(value)}; {remedy}")]
    if _TARGET in value:
        return []
    return [fault for name, item in value.items() for fault in check_pipeline(item, f"{path}.{name}")]


def list_steps(value: object, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Lists every step with its dotted path.

    Args:
        value: What the recipe says, of the right form.
        path: Its dotted path.
    """
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from list_steps(item, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        if _TARGET in value:
            yield path, value
        else:
            for name, item in value.items():
                yield from list_steps(item, f"{path}.{name}")


def check_arguments(function: Callable[..., object], step: Mapping[str, object], path: str) -> list[Fault]:
    """Checks the arguments of a step against the function's own.

    Args:
        function: The function.
        step: What the recipe says.
        path: Its dotted path.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]  # the first is the tensor
    except ValueError:  # some functions that are written in C do not tell their parameters
        return []
    given = [str(name) for name in step if name not in _HYDRA_KEYS]
    faults = []
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
        faults = [
            Fault(
                f"{path}.{name}",
                explain_unknown(name, known) if known else f"unknown key; {step[_TARGET]} takes no arguments",
            )
            for name in given
            if name not in known
        ]
    for parameter in parameters:
        named = parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if named and parameter.default is inspect.Parameter.empty and parameter.name not in given:
            faults.append(Fault(f"{path}.{parameter.name}", "missing; it has no default"))
    return faults


def build_pipeline(value: Any, path: str, faults: list[Fault]) -> Pipeline | None:
    """Imports the functions of the steps.

    Args:
        value: What the recipe says, of the right form.
        path: Its dotted path.
        faults: Is extended by what is wrong.

    Returns:
        The steps; None where there are none.
    """
    if callable(value):
        return Step(path, value, {})
    if not value:
        return None
    if isinstance(value, list):
        built = [build_pipeline(item, f"{path}[{index}]", faults) for index, item in enumerate(value)]
        return Chain(tuple(item for item in built if item is not None))
    if _TARGET not in value:
        named = {str(name): build_pipeline(item, f"{path}.{name}", faults) for name, item in value.items()}
        return ByName(path, {name: item for name, item in named.items() if item is not None})
    try:
        function = import_object(str(value[_TARGET]))
    except ArgumentError as error:
        faults.append(Fault(f"{path}.{_TARGET}", str(error)))
        return None
    if not callable(function):
        faults.append(Fault(f"{path}.{_TARGET}", f"{value[_TARGET]} cannot be called; expected a function"))
        return None
    faults.extend(check_arguments(function, value, path))
    return Step(path, function, {str(name): item for name, item in value.items() if name not in _HYDRA_KEYS})


def run_pipeline(pipeline: Pipeline | None, tensors: Mapping[str, Nested[Tensor]]) -> dict[str, Nested[Tensor]]:
    """Runs steps on tensors.

    Args:
        pipeline: The steps.
        tensors: By name. A function is given the tensor itself where there is one.

    Returns:
        The results, by name. A single result of a single tensor keeps its name.

    Raises:
        StepError: A function raised an error, or a name is not there.
    """
    if pipeline is None:
        return dict(tensors)
    if isinstance(pipeline, Chain):
        for part in pipeline.steps:
            tensors = run_pipeline(part, tensors)
        return dict(tensors)
    if isinstance(pipeline, ByName):
        results: dict[str, Nested[Tensor]] = {}
        for name in pipeline.entries:
            if name not in tensors:
                raise StepError(f"{pipeline.path}.{name}", f"there is no such tensor. There are: {', '.join(tensors)}.")
        for name, tensor in tensors.items():
            given = run_pipeline(pipeline.entries.get(name), {name: tensor})
            # Where there are several, the names of what one of them became begin with its own.
            alone = len(tensors) == 1
            results.update({key if alone or key == name else f"{name}_{key}": item for key, item in given.items()})
        return results
    return _run_step(pipeline, tensors)


def _run_step(step: Step, tensors: Mapping[str, Nested[Tensor]]) -> dict[str, Nested[Tensor]]:
    argument = next(iter(tensors.values())) if len(tensors) == 1 else dict(tensors)
    try:
        result = step.function(argument, **step.arguments)
    except StepError:
        raise
    except Exception as error:  # the function may be anybody's code
        text = str(error) if isinstance(error, ArgumentError) else describe_failure(error)
        received = ", ".join(_describe(name, tensor) for name, tensor in tensors.items())
        hint = f". It was given a mapping of {len(tensors)} tensors; for one of them, write NAME: {{_target_: ...}}"
        message = f"the step cannot run on {received}: {text}{hint if len(tensors) > 1 else ''}"
        raise StepError(step.path, message) from error
    if isinstance(result, Mapping):
        return {str(name): item for name, item in result.items()}
    if isinstance(result, (list, tuple)):
        return {f"output_{index}": item for index, item in enumerate(result)}
    if len(tensors) == 1:
        return {next(iter(tensors)): result}
    return {getattr(step.function, "__name__", "output"): result}


def _describe(name: str, tensor: Nested[Tensor]) -> str:
    shape = getattr(tensor, "shape", None)
    dtype = getattr(getattr(tensor, "dtype", None), "name", type(tensor).__name__)
    dims = "" if shape is None or shape.rank is None else f" {shape.as_list()}".replace("None", "null")
    return f"{name} {dtype}{dims}"


def find_first(pipeline: Pipeline | None) -> tuple[Step | ByName | None, tuple[Pipeline, ...]]:
    """Returns the first step that meets the inputs, and those that come after it."""
    after: tuple[Pipeline, ...] = ()
    while isinstance(pipeline, Chain):
        if not pipeline.steps:
            return None, after
        after = (*pipeline.steps[1:], *after)
        pipeline = pipeline.steps[0]
    return pipeline, after


def make_examples(pipeline: Pipeline | None, generator: object, count: int) -> Any:
    """Makes examples of what the first step takes.

    Args:
        pipeline: The steps.
        generator: A `numpy.random.Generator`.
        count: How many.

    Returns:
        An array; a mapping name -> array where the first step is by name; None where no function knows.
    """
    first, after = find_first(pipeline)
    if isinstance(first, ByName):
        made = {name: make_examples(entry, generator, count) for name, entry in first.entries.items()}
        return {name: array for name, array in made.items() if array is not None} or None
    if first is None or first.takes.examples is None:
        return None
    rest = Chain(after) if after else None
    return first.takes.examples(generator, count, (lambda: make_examples(rest, generator, count)), **first.arguments)
