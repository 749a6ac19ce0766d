"""How two artifacts of any formats differ: in what they are, in every tensor, and in what clients rely on."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.artifacts.inspection.artifacts import Artifact, open_artifact
from exporter.artifacts.inspection.inspection import name_objects, read_optimizer
from exporter.artifacts.inspection.records import (
    ComparisonFields,
    Difference,
    SignatureComparisonFields,
    SignatureDifference,
    TensorDifference,
)
from exporter.artifacts.inspection.showing.comparison_page import show_comparison, show_signatures
from exporter.artifacts.inspection.tensors import StoredTensor
from exporter.errors import ArtifactError
from exporter.processes.arrays import Array
from exporter.saving.compatibility.defaults import leave_out_new_defaults
from exporter.saving.contents import Endpoint, Tensor
from exporter.text.page import Shown
from exporter.text.showing import escape_line, write_json

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1

# What a format does for its own sake, and says nothing of the model.
_INCIDENTAL_KEYS = ("shared_object_id", "build_config", "compile_config", "module", "registered_name")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(ComparisonFields, Shown):
    """How two artifacts differ, as a person, a notebook and a file show it."""

    def __repr__(self) -> str:
        """Says in one line whether they hold the same."""
        words = "the same" if self.same else "not the same"
        return escape_line(f"<Comparison of {self.first} and {self.second}: {words}>")

    def show(self, console: "Console") -> None:
        """Prints what `exporter diff` prints."""
        show_comparison(self, console)

    def to_json(self) -> str:
        """Returns it as indented JSON that ends with a newline."""
        return write_json(asdict(self), default=str)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignatureComparison(SignatureComparisonFields, Shown):
    """What has changed for the clients of an artifact, as a person, a notebook and a file show it."""

    def __repr__(self) -> str:
        """Says in one line whether every client can go on."""
        words = "compatible" if self.compatible else "not compatible"
        return escape_line(f"<SignatureComparison of {self.first} and {self.second}: {words}>")

    def show(self, console: "Console") -> None:
        """Prints what `exporter diff --signatures` prints."""
        show_signatures(self, console)

    def to_json(self) -> str:
        """Returns it as indented JSON that ends with a newline."""
        differences = [asdict(difference) for difference in self.differences]
        return write_json({"compatible": self.compatible, "differences": differences})


def compare_artifacts(first: Path, second: Path) -> Comparison:
    """Compares two artifacts of any formats, one tensor in memory at a time.

    Args:
        first: The path of the first.
        second: The path of the second.

    Returns:
        The differences.

    Raises:
        ArtifactError: One of them cannot be read.
    """
    with open_artifact(first) as one, open_artifact(second) as other:
        for each in (one, other):  # an argument that one of them has no name for may be at its default in the other
            leave_out_new_defaults([each.config, each.compile_config])
        try:
            config = tuple(find_differences(_plain_config(one), _plain_config(other)))
            layers = tuple(_compare_layers(one, other))
        except RecursionError:
            raise ArtifactError(
                f"The configuration in {first} or in {second} is refused: it is nested too deeply."
            ) from None
        optimizer = tuple(_compare_optimizers(one, other))
        losses = tuple(find_differences(_name_losses(one), _name_losses(other)))
        tensors = tuple(_compare_tensors(one.tensors, other.tensors))
        assets = tuple(_compare_assets(one, other))
        signatures: tuple[SignatureDifference, ...] = ()
        operations: tuple[Difference, ...] = ()
        if one.graph is not None and other.graph is not None:
            signatures = compare_signatures(one.graph.signatures, other.graph.signatures)
            operations = tuple(find_differences(dict(one.graph.operations), dict(other.graph.operations)))
        return Comparison(
            schema_version=SCHEMA_VERSION,
            first=str(first),
            second=str(second),
            formats=(one.format, other.format),
            sizes=(measure_size(first), measure_size(second)),
            same=not (config or layers or optimizer or losses or tensors or assets or signatures or operations),
            config=config,
            layers=layers,
            optimizer=optimizer,
            compile=losses,
            tensors=tensors,
            assets=assets,
            compared=len(one.tensors.keys() & other.tensors.keys()),
            signatures=signatures,
            operations=operations,
            has_graphs=one.graph is not None and other.graph is not None,
        )


def read_signatures(path: Path) -> Mapping[str, Endpoint]:
    """Reads the endpoints of a SavedModel.

    Args:
        path: Its directory.

    Returns:
        The endpoints by name.

    Raises:
        ArtifactError: It is no SavedModel, or it cannot be read.
    """
    with open_artifact(path) as artifact:
        if artifact.graph is None:
            raise ArtifactError(f"{path} has no endpoints: only a SavedModel has signatures. Give two SavedModels.")
        return artifact.graph.signatures


def compare_signatures(
    first: Mapping[str, Endpoint], second: Mapping[str, Endpoint]
) -> tuple[SignatureDifference, ...]:
    """Compares endpoints from the side of a client that was written for the first.

    An endpoint or an output that is added hurts no client; nor does a dimension of an input that was fixed and now may
    vary, or one of an output that varied and is now fixed.

    Args:
        first: The endpoints that clients rely on.
        second: The endpoints in their place.

    Returns:
        The differences.
    """
    found = []
    for name in sorted(first.keys() | second.keys()):
        if name not in second:
            found.append(SignatureDifference(path=name, message="the endpoint is gone", compatible=False))
        elif name not in first:
            found.append(SignatureDifference(path=name, message="a new endpoint", compatible=True))
        else:
            one, other = first[name], second[name]
            found += _compare_sides(f"{name}.inputs", one.inputs, other.inputs, is_input=True)
            found += _compare_sides(f"{name}.outputs", one.outputs, other.outputs, is_input=False)
    return tuple(found)


def _compare_sides(
    path: str, first: Mapping[str, Tensor], second: Mapping[str, Tensor], is_input: bool
) -> Iterator[SignatureDifference]:
    side = "input" if is_input else "output"
    for name in sorted(first.keys() | second.keys()):
        place = f"{path}.{name}"
        if name not in second:
            yield SignatureDifference(path=place, message=f"the {side} is gone", compatible=False)
        elif name not in first:
            yield SignatureDifference(path=place, message=f"a new {side}", compatible=not is_input)
        else:
            one, other = first[name], second[name]
            if one.dtype != other.dtype:
                message = f"the dtype {one.dtype} became {other.dtype}"
                yield SignatureDifference(path=place, message=message, compatible=False)
            if one.shape != other.shape:
                message = f"the shape {write_shape(one.shape)} became {write_shape(other.shape)}"
                # An input may take more than before, an output may give less.
                wide, narrow = (other.shape, one.shape) if is_input else (one.shape, other.shape)
                yield SignatureDifference(path=place, message=message, compatible=_includes(wide, narrow))


def _includes(wide: tuple[int | None, ...] | None, narrow: tuple[int | None, ...] | None) -> bool:
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(size is None or size == other for size, other in zip(wide, narrow, strict=True))


def write_shape(shape: tuple[int | None, ...] | None) -> str:
    """Writes a shape such as `(?, 8)`.

    Args:
        shape: The dimensions, None for one that may vary; None for an unknown rank.
    """
    return "of any rank" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"


def find_differences(first: object, second: object, path: str = "") -> Iterator[Difference]:
    """Finds where two pieces of plain data differ.

    Args:
        first: Mappings and lists of anything, nested.
        second: The same.
        path: The dotted path of both.

    Yields:
        The innermost places that differ.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys((*first, *second)):
            yield from find_differences(first.get(key), second.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from find_differences(one, other, f"{path}[{number}]")
    elif first != second:
        yield Difference(path=path, first=first, second=second)


def measure_size(path: Path) -> int:
    """Returns the bytes of a file, or of all files of a directory; links are not followed.

    Args:
        path: The file or directory.
    """
    if not path.is_dir():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())


def _plain_config(artifact: Artifact) -> Any:
    config = artifact.config
    if config is None:
        return None
    arguments = config.get("config")
    if isinstance(arguments, dict):
        # Layers are compared one by one, by name.
        arguments = {key: value for key, value in arguments.items() if key != "layers"}
    return _strip({"class_name": config.get("class_name"), "config": arguments})


def _strip(node: object) -> Any:
    if isinstance(node, dict):
        # What Keras 2 wrote as a name, Keras 3 writes as an object of that name.
        if node.get("class_name") == "DTypePolicy" and isinstance(node.get("config"), dict):
            return node["config"].get("name")
        return {key: _strip(value) for key, value in node.items() if key not in _INCIDENTAL_KEYS}
    return [_strip(value) for value in node] if isinstance(node, list) else node


def _compare_layers(first: Artifact, second: Artifact) -> Iterator[Difference]:
    one, other = _list_layers(first), _list_layers(second)
    if one is None or other is None:
        return
    for name in dict.fromkeys((*one, *other)):
        if name not in one or name not in other:
            yield Difference(path=name, first=_name_class(one.get(name)), second=_name_class(other.get(name)))
        else:
            yield from find_differences(one[name], other[name], name)


def _list_layers(artifact: Artifact) -> dict[str, Any] | None:
    """The configuration of each layer by name, nested ones inside theirs."""
    arguments = (artifact.config or {}).get("config")
    nodes = arguments if isinstance(arguments, list) else (arguments or {}).get("layers")
    if not isinstance(nodes, list):
        return None
    layers = {}
    for number, node in enumerate(nodes):
        if isinstance(node, dict):
            inner = node.get("config")
            name = inner.get("name", node.get("name")) if isinstance(inner, dict) else node.get("name")
            layers[str(name or number)] = _strip(node)
    return layers


def _name_class(layer: Any) -> str | None:
    return None if layer is None else str(layer.get("class_name"))


def _compare_optimizers(first: Artifact, second: Artifact) -> Iterator[Difference]:
    one, other = read_optimizer(first), read_optimizer(second)
    facts_of_one = None if one is None else asdict(one)
    facts_of_other = None if other is None else asdict(other)
    if facts_of_one is None or facts_of_other is None:
        if facts_of_one != facts_of_other:
            names = [None if each is None else each["class_name"] for each in (facts_of_one, facts_of_other)]
            yield Difference(path="optimizer", first=names[0], second=names[1])
        return
    yield from find_differences(facts_of_one, facts_of_other)
    yield from find_differences(_optimizer_arguments(first), _optimizer_arguments(second), "config")


def _optimizer_arguments(artifact: Artifact) -> Any:
    config = (artifact.compile_config or {}).get("optimizer")
    arguments = config.get("config") if isinstance(config, dict) else None
    if not isinstance(arguments, dict):
        return None
    return _strip({key: value for key, value in arguments.items() if key != "learning_rate"})


def _name_losses(artifact: Artifact) -> dict[str, list[str]] | None:
    config = artifact.compile_config
    return config and {key: name_objects(config.get(key)) for key in ("loss", "metrics", "weighted_metrics")}


def _compare_tensors(
    first: Mapping[str, StoredTensor], second: Mapping[str, StoredTensor]
) -> Iterator[TensorDifference]:
    for path in dict.fromkeys((*first, *second)):
        one, other = first.get(path), second.get(path)
        words = [None if each is None else f"{each.dtype} {write_shape(each.shape)}" for each in (one, other)]
        if one is None or other is None:
            kind = "only in the second" if one is None else "only in the first"
            yield TensorDifference(path=path, kind=kind, first=words[0], second=words[1])
        elif one.shape != other.shape:
            yield TensorDifference(path=path, kind="shape", first=words[0], second=words[1])
        else:
            largest, differing = _compare_values(one.read(), other.read())
            kind = None
            if one.dtype != other.dtype:
                kind = "dtype"
            elif differing:
                kind = "values"
            elif None not in (one.trainable, other.trainable) and one.trainable != other.trainable:
                kind = "trainable"
                words = ["trained" if each.trainable else "not trained" for each in (one, other)]
            if kind is not None:
                yield TensorDifference(
                    path=path, kind=kind, first=words[0], second=words[1], largest=largest, differing=differing
                )


def _compare_assets(first: Artifact, second: Artifact) -> Iterator[Difference]:
    """Compares the files that belong to the state by their digests."""
    one, other = (
        {name: read for name, read in each.assets.items() if each.record is None or name in each.record["assets"]}
        for each in (first, second)
    )
    # Who else wrote the one, keeps a vocabulary in the configuration perhaps.
    both_tell = first.record is not None and second.record is not None
    for name in dict.fromkeys((*one, *other)) if both_tell else [name for name in one if name in other]:
        digests = [_digest(each[name]) if name in each else None for each in (one, other)]
        if digests[0] != digests[1]:
            yield Difference(path=name, first=digests[0], second=digests[1])


def _digest(read: Callable[[], bytes]) -> str:
    return f"sha256 {hashlib.sha256(read()).hexdigest()[:16]}…"


def _compare_values(first: Array, second: Array) -> tuple[float | None, int]:
    """Returns the largest difference of two arrays, and how many values differ; NaN is equal to NaN."""
    if first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes():
        return 0.0, 0
    if first.shape != second.shape:  # strings of other lengths
        return None, max(first.size, second.size)
    if first.dtype.kind == "c" or second.dtype.kind == "c":
        one, other = first.astype(np.complex128), second.astype(np.complex128)
    elif first.dtype.kind in "iub" and second.dtype.kind in "iub":
        unequal = first != second  # 64-bit integers are told apart here, and only measured as floats
        one, other = first[unequal].astype(np.float64), second[unequal].astype(np.float64)
        return float(np.max(np.abs(one - other), initial=0.0)), int(np.count_nonzero(unequal))
    else:
        try:
            one, other = first.astype(np.float64), second.astype(np.float64)
        except (TypeError, ValueError):
            return None, int(np.count_nonzero(first != second))
    unequal = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if not unequal.any():
        return 0.0, 0
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.max(np.abs(one[unequal] - other[unequal])))
    return largest if np.isfinite(largest) else None, int(np.count_nonzero(unequal))
