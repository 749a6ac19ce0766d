"""What is used of h5py's objects; tried with h5py 3.14."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class Dataset(Protocol):
    """`h5py.Dataset`."""

    attrs: MutableMapping[str, Any]
    dtype: "np.dtype[np.generic]"
    external: object
    file: "File"
    id: Any  # of h5py's low-level interface, which is not typed here
    is_virtual: bool
    name: str
    nbytes: int
    shape: tuple[int, ...]
    size: int | None

    def __getitem__(self, key: object, /) -> Any:
        """Reads values."""


class Group(Protocol):
    """`h5py.Group`."""

    attrs: MutableMapping[str, Any]
    file: "File"
    id: Any

    def __contains__(self, name: object, /) -> bool:
        """Tells whether there is something of a name or a path."""

    def __delitem__(self, name: str, /) -> None:
        """Removes something."""

    def __getitem__(self, name: str, /) -> Any:
        """Returns the group or the dataset of a name or a path."""

    def __iter__(self) -> Iterator[str]:
        """Gives the names."""

    def get(self, name: str, /, default: object = ..., *, getlink: bool = ...) -> Any:
        """Returns what is there, or its link, or the default."""

    def create_dataset(self, name: str, /, *, data: object) -> Dataset:
        """Writes an array."""

    def visititems(self, visit: Callable[[str, Any], object], /) -> object:
        """Calls a function for everything inside."""


class File(Group, Protocol):
    """`h5py.File`."""

    filename: str
    mode: str

    def close(self) -> None:
        """Ends it."""
