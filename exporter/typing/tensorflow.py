"""What is used of TensorFlow's objects; tried with TensorFlow 2.21."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, overload

from exporter.typing.messages import GraphDef
from exporter.typing.structures import Nested


class DType(Protocol):
    """`tf.DType`."""

    name: str
    size: int


class Shape(Protocol):
    """`tf.TensorShape`."""

    rank: int | None

    def __iter__(self) -> Iterator[Any]:
        """Gives the sizes: a number, or None for one that may vary."""

    @overload
    def __getitem__(self, key: slice, /) -> "Shape": ...

    @overload
    def __getitem__(self, key: int, /) -> Any: ...

    def as_list(self) -> list[Any]:
        """Returns the sizes."""

    def is_compatible_with(self, other: object, /) -> bool:
        """Tells whether a tensor of the other shape can be taken."""


class Tensor(Protocol):
    """`tf.Tensor`; of sparse and ragged ones what they have in common with it."""

    dtype: DType
    shape: Shape
    _keras_mask: "Tensor | None"

    def __getitem__(self, key: Any, /) -> "Tensor":
        """Returns a part of it."""


class TensorSpec(Protocol):
    """`tf.TensorSpec`, and those of sparse and ragged tensors; of what a strategy distributes, one for each replica."""

    dtype: DType
    shape: Shape
    _value_specs: Sequence["TensorSpec"]


class TFVariable(Protocol):
    """`tf.Variable`, also one that a strategy distributes."""

    name: str
    dtype: DType
    shape: Shape
    trainable: bool
    handle: Tensor
    values: Sequence["TFVariable"]
    synchronization: object
    aggregation: object
    _shared_name: str

    def read_value(self) -> Tensor:
        """Returns its value."""

    def assign(self, value: object, *, read_value: bool = ...) -> object:
        """Gives it a value."""

    def numpy(self) -> Any:
        """Returns its value as an array."""


class Graph(Protocol):
    """`tf.Graph`."""

    def as_graph_def(self) -> GraphDef:
        """Returns its message."""


class ConcreteFunction(Protocol):
    """`tf.types.experimental.ConcreteFunction`: one trace."""

    name: str
    captured_inputs: Sequence[Tensor]
    variables: Sequence[TFVariable]
    structured_input_signature: tuple[tuple[Any, ...], Mapping[str, TensorSpec]]
    structured_outputs: Any
    function_type: Any
    graph: "Graph"

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Runs it."""


class TFFunction(Protocol):
    """`tf.types.experimental.PolymorphicFunction`: what `tf.function` returns."""

    input_signature: Sequence[TensorSpec] | None

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Runs it, traced for the arguments."""

    def get_concrete_function(self, *args: object, **kwargs: object) -> ConcreteFunction:
        """Returns the trace for some arguments."""

    def _list_all_concrete_functions(self) -> Sequence[ConcreteFunction]: ...


class VariablePolicy(Protocol):
    """`tf.saved_model.experimental.VariablePolicy`."""

    def _expand_distributed_variables(self) -> bool: ...


class SaveOptions(Protocol):
    """`tf.saved_model.SaveOptions`."""

    __slots__: tuple[str, ...]
    extra_tags: object
    function_aliases: object
    experimental_io_device: object
    experimental_sharding_callback: object
    experimental_skip_saver: bool
    experimental_variable_policy: "VariablePolicy"


# A step of training or evaluation: what it logs, from one batch.
Step: TypeAlias = Callable[[Any], Nested[Tensor]]


class LookupTable(Protocol):
    """A lookup table of `tf.lookup`; one that cannot be changed lacks `insert` and `remove`."""

    resource_handle: Tensor
    key_dtype: DType
    value_dtype: DType

    def insert(self, keys: object, values: object, /) -> object:
        """Puts entries into it."""

    def remove(self, keys: object, /) -> object:
        """Takes entries out of it."""


# What owns a resource that functions use.
Resource: TypeAlias = TFVariable | LookupTable
