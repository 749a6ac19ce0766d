"""The sources that come with the package, by name: each enters itself where it is defined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class DataSplit:
    """A part of the data that a source's models are made for.

    Attributes:
        origin: What it is, in a few words.
        inputs: An array per input of the model, by name, in the range that the model takes.
        targets: What it should answer: `y`, or `y/<output>`.
    """

    origin: str
    inputs: "Mapping[str, NDArray[Any]]"
    targets: "Mapping[str, NDArray[Any]]"


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a source before it is called.

    Attributes:
        function: Returns the model.
        files: Its arguments that name files.
        words: Values of those arguments that are no files.
        checkpoints: Those arguments that may name a TensorFlow checkpoint by its prefix.
        data: Reads what its models train on, and what is held out of that; None where it knows none.
        check: Finds in its arguments what only the files tell to be wrong, without TensorFlow: the argument, and the
            message; None where it finds nothing.
    """

    function: Callable[..., Any]
    files: tuple[str, ...]
    words: tuple[str, ...]
    data: Callable[[], tuple[DataSplit, DataSplit]] | None = None
    check: Callable[[Mapping[str, Any]], list[tuple[str, str]]] | None = None
    checkpoints: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {}


def find_data(model: Any) -> Callable[[], tuple[DataSplit, DataSplit]] | None:
    """Finds what reads the data of a model's source: what it trains on, and what is held out. None where none does.

    Args:
        model: The group `model` of a recipe, or a live model.
    """
    prefix, target = "exporter.sources.", str(model.get("_target_", "")) if isinstance(model, Mapping) else ""
    known = SOURCES.get(target.removeprefix(prefix)) if target.startswith(prefix) else None
    return None if known is None else known.data


def source(
    *files: str,
    words: tuple[str, ...] = (),
    data: Callable[[], tuple[DataSplit, DataSplit]] | None = None,
    check: Callable[[Mapping[str, Any]], list[tuple[str, str]]] | None = None,
    checkpoints: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Makes a function a source, which a recipe names by `_target_: exporter.sources.NAME`.

    Args:
        files: See `Source`.
        words: See `Source`.
        data: See `Source`.
        check: See `Source`.
        checkpoints: See `Source`.
    """

    def enter(function: Function) -> Function:
        SOURCES[function.__name__] = Source(function, files, words, data, check, checkpoints)
        return function

    return enter
