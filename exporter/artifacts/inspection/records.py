"""What is known of an artifact that was read, and of how two of them differ."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.saving.contents import ContentItem, Endpoint, Omission
from exporter.storage.digests import FileRecord

Config = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a model.

    Attributes:
        name: Its name.
        class_name: The name of its class.
        address: Where its state is in the tree, such as `layers/dense`.
        parameters: How many numbers it holds.
    """

    name: str
    class_name: str
    address: str
    parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input of a model, as its configuration says."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The model in brief.

    Attributes:
        class_name: The name of its class.
        name: Its name.
        layers: Its layers, where the configuration says.
        inputs: Its inputs, where the configuration says.
    """

    class_name: str
    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[ModelInput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The tensors of one kind.

    Attributes:
        name: Such as `trainable weights`.
        tensors: How many there are.
        parameters: How many numbers they hold.
        bytes: How many bytes they have.
    """

    name: str
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """The optimizer.

    Attributes:
        class_name: The name of its class.
        step: How many steps it has made; None if its state is not there.
        learning_rate: A number, or the name of a schedule; None if it is not said.
    """

    class_name: str
    step: int | None
    learning_rate: float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSummary:
    """The dtype and the shape of a tensor, and the group that it belongs to."""

    dtype: str
    shape: tuple[int, ...]
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSummary:
    """The receipt beside the artifact.

    Attributes:
        path: Where it is.
        status: `proven` or `written`.
        matches: Whether every file is the one that it names.
        fault: Why it could not be read; empty if it could.
        facts: What the source of the model told of it.
    """

    path: str
    status: str
    matches: bool
    fault: str
    facts: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionFields:
    """Everything that an artifact says of itself.

    Attributes:
        schema_version: Of this record's layout.
        path: Absolute path of the artifact.
        format: `tf`, `h5` or `keras`; `directory` for an unzipped Keras archive, `weights` for weights alone.
        writer: The software that wrote it.
        architecture: The model in brief; None if the artifact holds no configuration.
        groups: Its tensors, by kind.
        tensors: Each of them, by path.
        optimizer: None if there is none.
        signatures: The endpoints by name.
        method_names: What TF Serving calls each of them.
        tags: Of the graph.
        options: What can be seen of the options with which it was saved, by the names of SaveOptions.
        operations: How often each operation stands in the graph.
        functions: How many functions the graph has.
        reaching_out: Operations that touch files, run Python, or come from outside TensorFlow.
        held: What it holds.
        missing: What it does not hold, and why it matters.
        custom: Classes and functions that Keras does not have.
        lives_without_code: Whether our `load_model` needs none of their code.
        versions: Of the software that wrote it.
        recipe: Of the export, if it was one.
        files: Every file with its digest.
        total_bytes: The sum of their sizes.
        receipt: The receipt beside it; None if there is none.
        oldest_keras: The oldest release of Keras that can open it, of those that were tried; empty if not known.
        oldest_tensorflow: Likewise of TensorFlow, without Keras.
    """

    schema_version: int
    path: str
    format: str
    writer: str
    architecture: Architecture | None
    groups: tuple[Group, ...]
    tensors: Mapping[str, TensorSummary]
    optimizer: OptimizerState | None
    signatures: Mapping[str, Endpoint]
    method_names: Mapping[str, str]
    tags: tuple[str, ...]
    options: Mapping[str, Any]
    operations: Mapping[str, int]
    functions: int
    reaching_out: tuple[str, ...]
    held: tuple[ContentItem, ...]
    missing: tuple[Omission, ...]
    custom: tuple[str, ...]
    lives_without_code: bool
    versions: Mapping[str, str]
    recipe: Config | None
    files: tuple[FileRecord, ...]
    total_bytes: int
    receipt: ReceiptSummary | None
    oldest_keras: str = ""
    oldest_tensorflow: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which two artifacts differ.

    Attributes:
        path: What it is, dotted.
        first: What the first one says; None if it does not say.
        second: What the second one says; None if it does not say.
    """

    path: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """One tensor in which two artifacts differ.

    Attributes:
        path: Of the tensor.
        kind: `only in the first`, `only in the second`, `shape`, `dtype`, `values`, or `trainable` where one is trained
            and the other is not.
        first: Its dtype and shape in the first; None if it is not there.
        second: Its dtype and shape in the second; None if it is not there.
        largest: The largest absolute difference of two values; None where they cannot be subtracted.
        differing: How many values differ.
    """

    path: str
    kind: str
    first: str | None
    second: str | None
    largest: float | None = None
    differing: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureDifference:
    """One thing in which the endpoints of two artifacts differ.

    Attributes:
        path: The endpoint, and the name of an input or output of it.
        message: What has changed.
        compatible: Whether a client of the first can go on with the second.
    """

    path: str
    message: str
    compatible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFields:
    """How two artifacts differ.

    Attributes:
        schema_version: Of this record's layout.
        first: The path of the first.
        second: The path of the second.
        formats: The format of each.
        sizes: The bytes of each.
        same: Whether nothing is listed below. What only one of two formats has is not compared.
        config: Differences of the model's configuration.
        layers: Layers that only one has, or whose class changed.
        optimizer: Differences of the optimizer.
        compile: Differences of the losses and metrics, by name.
        tensors: Differences of the state.
        assets: Differences of the files beside the variables, such as vocabularies and the entries of lookup tables.
        compared: How many tensors both have.
        signatures: Differences of the endpoints, where both have a graph.
        operations: How often operations stand in the graph, where that differs and both have one.
        has_graphs: Whether both have one.
    """

    schema_version: int
    first: str
    second: str
    formats: tuple[str, str]
    sizes: tuple[int, int]
    same: bool
    config: tuple[Difference, ...]
    layers: tuple[Difference, ...]
    optimizer: tuple[Difference, ...]
    compile: tuple[Difference, ...]
    tensors: tuple[TensorDifference, ...]
    assets: tuple[Difference, ...]
    compared: int
    signatures: tuple[SignatureDifference, ...]
    operations: tuple[Difference, ...]
    has_graphs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureComparisonFields:
    """What has changed for the clients of an artifact.

    Attributes:
        first: The path of the artifact that clients rely on.
        second: The path of the one in its place.
        differences: The changes.
    """

    first: str
    second: str
    differences: tuple[SignatureDifference, ...]

    @property
    def compatible(self) -> bool:
        """Whether every client can go on."""
        return all(difference.compatible for difference in self.differences)


def count_classes(layers: tuple[Layer, ...]) -> str:
    """Sums up layers in a line, such as `3 Conv2D, 2 Dense`.

    Args:
        layers: The layers.
    """
    counted = Counter(layer.class_name for layer in layers if layer.class_name != "InputLayer")
    return ", ".join(f"{number} {name}" for name, number in counted.items())
