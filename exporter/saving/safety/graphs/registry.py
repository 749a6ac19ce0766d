"""The operations of TensorFlow by what they do, as `data/operations.toml` lists them.

`python -m exporter.saving.safety.graphs.registry` lists the operations of the installed TensorFlow that no family has.
"""

import ctypes
import importlib
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parents[3] / "data" / "operations.toml"

# Families whose operations are allowed in one place only.
SAVER = "saver"
TABLE_FILES = "table_files"


@dataclass(frozen=True, slots=True)
class Family:
    """Operations that are allowed or refused for one reason.

    Attributes:
        name: Its name in the file.
        is_allowed: Whether a graph from somewhere else may use them.
        reason: What they do, as the end of a sentence that begins with the name of one.
        state: Why they are allowed though TensorFlow calls some of them stateful; empty if it calls none so.
        library: The module that registers them; empty for TensorFlow's own.
        operations: Their names.
    """

    name: str
    is_allowed: bool
    reason: str
    state: str
    library: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registry:
    """The families.

    Attributes:
        families: Every one.
        family_of: The family of each operation.
        initialising: The allowed operations that may run while a file is loaded.
    """

    families: tuple[Family, ...]
    family_of: Mapping[str, Family]
    initialising: frozenset[str]

    def find_unlisted(self, operations: Iterable[str]) -> list[str]:
        """Returns the operations that no family has, by name."""
        return sorted(set(operations) - self.family_of.keys())

    def find_libraries(self, operations: Iterable[str]) -> tuple[str, ...]:
        """Returns the modules beside TensorFlow that register some of the operations, by name."""
        families = {self.family_of[each] for each in set(operations) & self.family_of.keys()}
        return tuple(sorted({family.library for family in families if family.library}))


@cache
def read_registry() -> Registry:
    """Reads the families, without TensorFlow."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    families = tuple(
        Family(
            name=name,
            is_allowed=kind == "allowed",
            reason=table["reason"],
            state=table.get("state", ""),
            library=table.get("library", ""),
            operations=tuple(table["operations"].split()),
        )
        for kind in ("allowed", "refused")
        for name, table in tables[kind].items()
    )
    family_of = {operation: family for family in families for operation in family.operations}
    return Registry(families, family_of, frozenset(tables["initialising"].split()))


def list_registered() -> dict[str, bool]:
    """Lists what TensorFlow and TensorFlow Text register.

    Returns:
        Each operation, and whether TensorFlow calls it stateful.
    """
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2

    with suppress(ModuleNotFoundError):
        importlib.import_module("tensorflow_text")
    library = ctypes.CDLL(str(next(Path(tf.sysconfig.get_lib()).glob("libtensorflow_cc.so*"))))
    library.TF_GetAllOpList.restype = ctypes.POINTER(_Buffer)
    content = library.TF_GetAllOpList().contents
    listed = op_def_pb2.OpList.FromString(ctypes.string_at(content.data, content.length))
    return {operation.name: operation.is_stateful for operation in listed.op}


class _Buffer(ctypes.Structure):
    """`TF_Buffer` of TensorFlow's C API."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocate", ctypes.c_void_p))


if __name__ == "__main__":
    print(*read_registry().find_unlisted(list_registered()), sep="\n")
