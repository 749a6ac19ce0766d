"""What an artifact takes and returns, beside what was declared."""

from collections.abc import Iterator, Mapping

from exporter.artifacts.records import Check, CheckKind
from exporter.saving.contents import Endpoint, Tensor
from exporter.text.showing import show


def compare_endpoints(declared: Mapping[str, Endpoint], received: Mapping[str, Endpoint]) -> Check:
    """Compares what an artifact takes and returns with what was declared.

    Args:
        declared: By the names of the endpoints.
        received: What its runtime says, likewise.
    """
    wrong = list(_list_differences(declared, received))
    figure = f"{len(declared)} as declared" if not wrong else f"{len(wrong)} differ"
    return Check("endpoints", not wrong, figure, "; ".join(wrong) or ", ".join(declared), kind=CheckKind.FACTS)


def _list_differences(declared: Mapping[str, Endpoint], received: Mapping[str, Endpoint]) -> Iterator[str]:
    """Lists how endpoints are not as declared: names, dtypes, shapes, and dimensions that may vary.

    A runtime may know less of the shape of an output than TensorFlow, or more: the shapes of its answers are compared.
    """
    for name in sorted(declared.keys() | received.keys()):
        if name not in received or name not in declared:
            yield f"{name} is {'not there' if name not in received else 'there, and nobody declared it'}"
            continue
        before, after = declared[name], received[name]
        said, found = before.describe(), after.describe()
        if said[0] != found[0]:
            yield f"{name} has the inputs {show(found[0])} in place of {show(said[0])}"
        is_same = before.outputs.keys() == after.outputs.keys()
        if not (is_same and all(_agrees(tensor, after.outputs[each]) for each, tensor in before.outputs.items())):
            yield f"{name} has the outputs {show(found[1])} in place of {show(said[1])}"


def _agrees(declared: Tensor, received: Tensor) -> bool:
    if declared.dtype != received.dtype:
        return False
    if declared.shape is None or received.shape is None:
        return True
    sizes = zip(declared.shape, received.shape, strict=False)
    return len(declared.shape) == len(received.shape) and all(a == b or None in (a, b) for a, b in sizes)
