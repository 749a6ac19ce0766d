"""What the first function of an endpoint takes, and how the proof makes examples of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "exporter_takes"


@dataclass(frozen=True, slots=True)
class Takes:
    """The tensor that a function takes, where that is not what its successor takes.

    Attributes:
        name: Of the endpoint's input, unless the recipe names it; the same for every tensor that it takes.
        dtype: Such as `string`.
        shape: With the batch dimension first; None for one that may vary.
        examples: Makes an array of examples, from a `numpy.random.Generator`, their number, a function that makes
            examples of what comes after (None where that is not known), and the function's own keyword arguments.
        gives: Names the tensors that the function gives, from its keyword arguments; None where it gives one.
        files: The names of the arguments that may be the path of a file.
    """

    name: str = ""
    dtype: str = ""
    shape: tuple[int | None, ...] = (None,)
    examples: Callable[..., Array] | None = None
    gives: Callable[..., list[str]] | None = None
    files: tuple[str, ...] = ()


def takes(
    name: str = "",
    dtype: str = "",
    shape: tuple[int | None, ...] = (None,),
    examples: Callable[..., Array] | None = None,
    gives: Callable[..., list[str]] | None = None,
    files: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Notes on a function what it takes; a function of a user's own can be decorated as well.

    Args:
        name: See `Takes`, as for all the others.
        dtype: Of the tensor; empty where it is what the successor takes.
        shape: Of the tensor.
        examples: Makes examples for the proof.
        gives: Names the tensors that the function gives.
        files: The arguments that may be paths.

    Returns:
        A decorator, which returns the function itself.
    """

    def note(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, Takes(name, dtype, shape, examples, gives, files))
        return function

    return note


def find_takes(function: Any) -> Takes | None:
    """Returns what is noted on a function, or None."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Takes) else None
