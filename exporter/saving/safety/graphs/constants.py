"""What a constant of a graph holds and claims to hold, without TensorFlow."""

import math
import struct
from collections.abc import Sequence

from exporter.typing.messages import AttrValue, NodeDef, TensorShapeProto

_STRING, _INT32, _INT64 = 7, 3, 9
# The bytes of one element, by `DataType`; what is smaller than a byte takes one, and a string's object 24.
_SIZES = {1: 4, 2: 8, 3: 4, 5: 2, 7: 24, 8: 8, 9: 8, 13: 4, 14: 2, 15: 2, 16: 2, 17: 2, 18: 16, 19: 2, 22: 4, 23: 8}


def get_attribute(node: NodeDef, name: str) -> AttrValue | None:
    """Returns the value of an attribute, or None."""
    found = None
    for entry in node.attr:  # the last one counts
        if entry.key == name:
            found = entry.value
    return found


def count_elements(shape: TensorShapeProto) -> int:
    """Returns how many elements a message `TensorShapeProto` has; a size that is not known counts as one."""
    return math.prod(max(dim.size, 1) for dim in shape.dim)


def get_size(dtype: int) -> int:
    """Returns the bytes of one element."""
    return _SIZES.get(dtype, 1)


def read_strings(node: NodeDef | None) -> Sequence[bytes] | None:
    """Returns the strings of a constant, or None for anything else."""
    value = None if node is None or node.op != "Const" else get_attribute(node, "value")
    return value.tensor.string_val if value is not None and value.tensor.dtype == _STRING else None


def read_integers(node: NodeDef | None) -> list[int] | None:
    """Returns the numbers of a constant of at most 254 integers, or None for anything else."""
    value = None if node is None or node.op != "Const" else get_attribute(node, "value")
    if value is None or value.tensor.dtype not in (_INT32, _INT64):
        return None
    tensor, count = value.tensor, count_elements(value.tensor.tensor_shape)
    if any(dim.size == 0 for dim in tensor.tensor_shape.dim):
        return []
    if count > 254:  # TensorFlow has no tensors of more dimensions
        return None
    if tensor.tensor_content:
        form = f"<{count}{'i' if tensor.dtype == _INT32 else 'q'}"
        if len(tensor.tensor_content) != struct.calcsize(form):
            return None
        return list(struct.unpack(form, tensor.tensor_content))
    listed = list(tensor.int_val if tensor.dtype == _INT32 else tensor.int64_val)
    return [*listed, *[listed[-1] if listed else 0] * (count - len(listed))][:count]
