"""The sources that come with the package, by name: each enters itself where it is defined."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a source before it is called.

    Attributes:
        function: Returns the model.
        files: Its arguments that name files.
        words: Values of those arguments that are no files.
    """

    function: Callable[..., Any]
    files: tuple[str, ...]
    words: tuple[str, ...]


SOURCES: dict[str, Source] = {}


def source(*files: str, words: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Makes a function a source, which a recipe names by `_target_: exporter.sources.NAME`.

    Args:
        files: See `Source`.
        words: See `Source`.
    """

    def enter(function: Function) -> Function:
        SOURCES[function.__name__] = Source(function, files, words)
        return function

    return enter
