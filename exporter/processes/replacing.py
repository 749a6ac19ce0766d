"""Methods of another library that are replaced while a block is open, and are its own again afterwards."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Maker = Callable[[Any], Any]

_lock = threading.Lock()
# By the class and the name of a method: what it is, and in how many blocks each maker makes another one of it; whether
# it is to be the outermost stands before the maker.
_replaced: dict[tuple[type, str], tuple[Any, Counter[tuple[bool, Maker]]]] = {}


@contextmanager
def replaced(kind: type, name: str, make: Maker, *, outermost: bool = False) -> Iterator[None]:
    """Replaces a method for every thread; blocks may be nested, and those of several threads may overlap.

    What is made should do as the former method does in a thread that did not open the block.

    Args:
        kind: A class that has the method, itself or from another one.
        name: The method's name.
        make: Returns another method, given the one of now. It is used once, however many blocks of it are open.
        outermost: Whether what it makes is called before all that others make of the same method.

    Raises:
        AttributeError: The class has no such method.
    """
    owner = find_owner(kind, name)
    if owner is None:
        raise AttributeError(f"{kind.__qualname__} has no attribute {name!r}")
    with _lock:
        _, makers = _replaced.setdefault((owner, name), (vars(owner)[name], Counter()))
        makers[outermost, make] += 1
        _make_anew(owner, name)
    try:
        yield
    finally:
        with _lock:
            makers[outermost, make] -= 1
            _make_anew(owner, name)


def find_owner(kind: type, name: str) -> type | None:
    """Finds the class in which an attribute of another one is defined; None where it is in none."""
    return next((each for each in kind.__mro__ if name in vars(each)), None)


def _make_anew(owner: type, name: str) -> None:
    method, makers = _replaced[owner, name]
    for entry in [entry for entry, count in makers.items() if not count]:
        del makers[entry]
    if not makers:
        del _replaced[owner, name]
    for _, make in sorted(makers, key=lambda entry: entry[0]):
        method = make(method)
    setattr(owner, name, method)
