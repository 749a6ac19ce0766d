"""What an HDF5 file may hold: groups and arrays of numbers and texts that lie in the file itself."""

from collections.abc import Iterable
from dataclasses import dataclass

import h5py
import numpy as np

from exporter.errors import ArtifactError
from exporter.saving.layout.checksums import damage_explained
from exporter.typing.hdf5 import Dataset, File, Group

# Filters that come with HDF5 itself; any other is a library that HDF5 would load from its search path.
_FILTERS = {
    *(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32),
    *(h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET, h5py.h5z.FILTER_LZF),
}
_MAX_DEPTH = 200
_MAX_OBJECTS = 1_000_000
# Below the floor an array may unpack to anything; above it, to so many times the bytes that are stored.
_BOMB_FLOOR = 1 << 26
_EXPANSION = 1000


def check_hdf5(file: File, place: object, names: Iterable[str] | None = None) -> int:
    """Looks at every object of a file once, before any value is read.

    Args:
        file: The file, open.
        place: The artifact, for errors.
        names: Of what is looked at in the root; None for all.

    Returns:
        How many numbers its arrays hold.

    Raises:
        ArtifactError: It has a link that is not a plain one, an array whose values lie elsewhere, that holds
            references or other objects, that needs a foreign filter, or claims far more than is stored; or it is
            nested too deeply, or holds itself.
    """
    with damage_explained(place):
        chosen = None if names is None else [name for name in names if file.get(name, getlink=True)]
    return _Walk(place).visit(file, chosen)


class _Walk:
    def __init__(self, place: object) -> None:
        self._place = place
        self._seen: set[tuple[int, int]] = set()

    def visit(self, root: Group, names: list[str] | None) -> int:
        total = 0
        waiting: list[tuple[Group, str, int]] = [(root, "", 0)]
        while waiting:
            group, place, depth = waiting.pop()
            with damage_explained(self._place, place):
                inside = list(group) if names is None or depth else names
            for name in inside:
                path = f"{place}/{name}".strip("/")
                with damage_explained(self._place, path):
                    link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    self._refuse(path, f"Not allowed: H5 file with {type(link).__name__}")
                with damage_explained(self._place, path):
                    item = group[name]
                    address = h5py.h5o.get_info(item.id)
                if (key := (address.fileno, address.addr)) in self._seen:
                    continue  # tied weights are one array of two names; a group that holds itself ends here too
                self._seen.add(key)
                if len(self._seen) > _MAX_OBJECTS:
                    self._refuse(path, f"the file holds more than {_MAX_OBJECTS:,} objects")
                if isinstance(item, h5py.Group):
                    if depth >= _MAX_DEPTH:
                        self._refuse(path, f"groups are nested more than {_MAX_DEPTH} deep")
                    waiting.append((item, path, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    with damage_explained(self._place, path):
                        facts = _read_facts(item)
                    total += self._check_dataset(facts, path)
                else:
                    self._refuse(path, f"it is a {type(item).__name__}, where a group or an array is expected")
        return total

    def _check_dataset(self, facts: "_Facts", path: str) -> int:
        if facts.external:
            self._refuse(path, f"Not allowed: H5 file with external Dataset: {facts.external}")
        if facts.is_virtual:
            self._refuse(path, "Not allowed: H5 file with virtual Dataset")
        for code in facts.filters:
            if code not in _FILTERS:
                self._refuse(path, f"it needs the filter {code}, which is not one of HDF5's own")
        if facts.dtype.hasobject and h5py.check_string_dtype(facts.dtype) is None:
            self._refuse(path, f"it holds references or objects ({facts.dtype})")
        declared, stored = facts.count * facts.dtype.itemsize, facts.stored
        if declared > _BOMB_FLOOR and declared > _EXPANSION * stored:
            self._refuse(
                path,
                f"it declares {declared:,} bytes and stores {stored:,}; refusing to load a potential "
                "decompression/shape bomb",
            )
        return facts.count

    def _refuse(self, path: str, reason: str) -> None:
        raise ArtifactError(f"{self._place} is refused for {path!r}: {reason}.")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What HDF5 says of an array.

    Attributes:
        external: The files that its values lie in.
        is_virtual: Whether it is made of other arrays.
        filters: The codes of what its bytes went through.
        dtype: Of its values.
        count: How many there are.
        stored: Their bytes in the file.
    """

    external: object
    is_virtual: bool
    filters: tuple[int, ...]
    dtype: np.dtype[np.generic]
    count: int
    stored: int


def _read_facts(dataset: Dataset) -> _Facts:
    plist = dataset.id.get_create_plist()
    external = dataset.external if plist.get_external_count() else None
    if external:  # nothing else is asked of it
        return _Facts(external, False, (), dataset.dtype, 0, 0)
    filters = tuple(plist.get_filter(number)[0] for number in range(plist.get_nfilters()))
    is_virtual = plist.get_layout() == h5py.h5d.VIRTUAL
    stored = dataset.id.get_storage_size()
    return _Facts(None, is_virtual, filters, dataset.dtype, int(dataset.size or 0), int(stored))
