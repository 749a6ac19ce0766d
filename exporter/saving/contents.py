"""What an artifact holds, in words that a person reads and a receipt keeps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from exporter.text.printable import escape

# What stock Keras reads of a SavedModel; without it, the artifact is whole for every other reader.
TWIN = "Keras twin"

# `tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY`: the endpoint that a server takes if none is named.
SERVING_DEFAULT = "serving_default"

# Of a model that came back as functions: the reason is its reason for having no configuration, too.
LAYERS = "layers"

# The attribute of a loaded model that says what its file said of it and could not be made again.
_LOST = "lost_when_loaded"


class OmissionKind(StrEnum):
    """What it means that something is left out, whatever the words are."""

    CONTENT = "content"  # the artifact does not hold it
    TWIN = "keras_twin"  # the artifact is whole, but not for stock Keras
    STOCK_KERAS = "stock_keras"  # stock Keras does not load the same model from it
    COMPARISON = "comparison"  # the artifact may hold it: there was nothing to compare
    ELSEWHERE = "elsewhere"  # the artifact holds it, and another environment does not load the same from it


@dataclass(frozen=True, slots=True)
class ContentItem:
    """One kind of thing that the artifact holds.

    Attributes:
        what: Its name, such as `weights` or `optimizer`.
        detail: How much of it, such as `10 tensors, 80.1 kB`.
    """

    what: str
    detail: str

    def __post_init__(self) -> None:
        _escape_fields(self)


@dataclass(frozen=True, slots=True)
class Omission:
    """One kind of thing that the model has and the artifact does not hold.

    Attributes:
        what: Its name.
        why: The reason, and what to do where there is something to do.
        intended: Whether it was asked for, or is discarded by Keras anyway; otherwise the format cannot hold it.
        kind: What that means.
    """

    what: str
    why: str
    intended: bool = False
    kind: OmissionKind = field(default=OmissionKind.CONTENT, compare=False)  # the words say it, too

    def __post_init__(self) -> None:
        _escape_fields(self)


def note_lost(model: object, lost: Iterable[Omission]) -> None:
    """Notes what a model's file said of it and could not be made again; whoever saves the model says it again."""
    object.__setattr__(model, _LOST, (*list_lost(model), *lost))


def list_lost(model: object) -> tuple[Omission, ...]:
    """Lists what `note_lost` noted."""
    noted: tuple[Omission, ...] = getattr(model, _LOST, ())
    return noted


def find_omission_kind(what: str) -> OmissionKind:
    """Finds the kind of what was left out by its name: the version before wrote no kind."""
    if what.startswith("proof of "):
        return OmissionKind.COMPARISON
    return {TWIN: OmissionKind.TWIN, "stock Keras": OmissionKind.STOCK_KERAS}.get(what, OmissionKind.CONTENT)


def _escape_fields(line: ContentItem | Omission) -> None:
    """Makes texts printable: they hold names that are anybody's, which could steer a terminal or fit no encoding."""
    for each in fields(line):
        value = getattr(line, each.name)
        if isinstance(value, str) and not isinstance(value, OmissionKind):
            object.__setattr__(line, each.name, escape(value))


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of an endpoint.

    Attributes:
        shape: The dimensions, `None` for one that may vary; `None` for an unknown rank.
        dtype: The name of the dtype, such as `float32`.
    """

    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The inputs and outputs of one signature, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def describe(self) -> tuple[dict[str, str], dict[str, str]]:
        """Says in words what it takes and what it returns, by name."""
        taken, returned = (
            {name: format_tensor(tensor) for name, tensor in tensors.items()} for tensors in (self.inputs, self.outputs)
        )
        return taken, returned


@dataclass(frozen=True, slots=True)
class Dependency:
    """One thing outside of the artifact.

    Attributes:
        owner: Whose it is, such as `TFSMLayer 'scores'`.
        class_name: The class of the owner.
        argument: The owner's argument that names it, such as `filepath`.
        place: A path as the configuration says it, or a URL, without credentials.
    """

    owner: str
    class_name: str
    argument: str
    place: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What was written.

    Attributes:
        held: What is held.
        left_out: What was left out, and why.
        signatures: The endpoints, by name.
        dependencies: What the model needs that is not in the artifact.
        oldest_keras: The oldest release that can open it, of those that were tried; empty where no Keras does.
        oldest_tensorflow: Likewise of TensorFlow, without Keras.
        libraries: The modules beside TensorFlow that register operations of its graph.
    """

    held: tuple[ContentItem, ...]
    left_out: tuple[Omission, ...]
    signatures: Mapping[str, Endpoint]
    dependencies: tuple[Dependency, ...] = ()
    oldest_keras: str = ""
    oldest_tensorflow: str = ""
    libraries: tuple[str, ...] = ()


def format_bytes(count: float) -> str:
    """Returns a size such as `3.2 kB`, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_tensor(tensor: Tensor) -> str:
    """Returns a tensor's dtype and shape, such as `float32 (?, 8, 8, 1)`."""
    if tensor.shape is None:
        return f"{tensor.dtype} of any shape"
    return f"{tensor.dtype} ({', '.join('?' if size is None else str(size) for size in tensor.shape)})"
