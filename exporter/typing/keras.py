"""What is used of Keras's objects; tried with Keras 3.15.

An attribute with an underscore is one that `exporter.saving.private_api` names, with what it is for.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, SupportsFloat

from exporter.typing.structures import Nested
from exporter.typing.tensorflow import Step, Tensor, TFVariable


class Variable(Protocol):
    """`keras.Variable`, over a variable of TensorFlow."""

    name: str
    path: str
    dtype: str
    shape: Sequence[int]
    trainable: bool
    value: TFVariable
    regularizer: object
    constraint: object
    _name: str
    _path: str
    _shape: tuple[int, ...]
    _dtype: str
    _value: TFVariable

    def __int__(self) -> int:
        """Returns the value of a single number."""

    def __float__(self) -> float:
        """Returns the value of a single number."""

    def assign(self, value: object, /) -> object:
        """Gives it a value."""

    def numpy(self) -> Any:
        """Returns its value as an array."""

    def _initialize(self, value: object, /) -> None: ...


class KerasTensor(Protocol):
    """`keras.KerasTensor`: a tensor of a graph of layers, without values."""

    dtype: str
    shape: Sequence[int | None]
    _keras_mask: "KerasTensor | None"


class SeedGenerator(Protocol):
    """`keras.random.SeedGenerator`."""

    state: Variable


class DTypePolicy(Protocol):
    """`keras.dtype_policies.DTypePolicy`."""

    name: str
    quantization_mode: str | None


class Metric(Protocol):
    """`keras.metrics.Metric`."""

    name: str
    variables: Sequence[Variable]


class CallArguments(Protocol):
    """What a layer was called with."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Node(Protocol):
    """One call of a layer inside its model."""

    arguments: CallArguments


class Tracker(Protocol):
    """What puts a layer's attributes into its lists."""

    locked: bool

    def unlock(self) -> None:
        """Lets a built layer have more."""

    def add_to_store(self, store: str, value: object, /) -> None:
        """Adds to a list."""


class Layer(Protocol):
    """`keras.layers.Layer`."""

    name: str
    path: str | None
    built: bool
    trainable: bool
    supports_masking: bool
    supports_jit: bool
    dtype_policy: DTypePolicy
    compute_dtype: str
    quantization_mode: str | None
    variables: Sequence[Variable]
    weights: Sequence[Variable]
    trainable_variables: Sequence[Variable]
    trainable_weights: list[Variable]
    non_trainable_weights: list[Variable]
    _call_has_training_arg: bool
    _call_signature: inspect.Signature
    _called: bool
    _dtype_policy: DTypePolicy
    _inbound_nodes: Sequence[Node]
    _layers: Sequence["Layer"]
    _loss_ids: set[int]
    _losses: list[Tensor]
    _metrics: Sequence[Metric]
    _non_trainable_variables: list[Variable]
    _seed_generators: Sequence[SeedGenerator]
    _tracked: list[object]
    _tracker: Tracker
    _trainable_variables: list[Variable]

    def __call__(self, *args: object, **kwargs: object) -> Nested[Tensor]:
        """Calls the layer."""

    def enable_lora(self, rank: int, /) -> None:
        """Adapts it; only some kinds of layers can."""

    def quantize(self, mode: str, /, *, config: object, **options: bool) -> None:
        """Quantizes it."""

    def _flatten_layers(self, include_self: bool = ..., recursive: bool = ...) -> Sequence["Layer"]: ...

    def _get_own_losses(self) -> Sequence[Tensor]: ...

    def _obj_type(self) -> str: ...


class Schedule(Protocol):
    """`keras.optimizers.schedules.LearningRateSchedule`."""

    def __call__(self, step: Variable, /) -> SupportsFloat:
        """Returns the rate at a step."""


class Optimizer(Protocol):
    """`keras.optimizers.Optimizer`."""

    name: str
    built: bool
    variables: Sequence[Variable]
    iterations: Variable
    _iterations: Variable
    _learning_rate: object
    _trainable_variables: Sequence[Variable]

    def build(self, variables: Sequence[Variable], /) -> None:
        """Makes its slots."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of its constructor."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], /) -> "Optimizer":
        """Makes an optimizer."""


class CompileConfig(Protocol):
    """What `compile` was called with."""

    config: dict[str, Any]


class Model(Layer, Protocol):
    """`keras.Model`."""

    layers: Sequence[Layer]
    inputs: Sequence[Any]
    outputs: Any
    input_dtype: str
    compiled: bool
    optimizer: Optimizer
    metrics_variables: Sequence[Variable]
    loss: Any
    jit_compile: bool | str
    run_eagerly: bool
    steps_per_execution: int
    train_function: Any  # None until it is made, as the next two
    test_function: Any
    predict_function: Any
    train_step: Step
    test_step: Step
    predict_step: Step
    _compile_config: CompileConfig  # of a compiled model
    _inputs_struct: Any

    def compile(self, **arguments: Any) -> None:
        """Chooses how it is trained."""

    def compile_from_config(self, config: Mapping[str, Any], /) -> None:
        """Compiles it as `get_compile_config` says."""

    def get_compile_config(self) -> Any:
        """Returns the arguments of `compile`, as plain data."""

    def get_metrics_result(self) -> Any:
        """Returns what an epoch logs."""

    def make_train_function(self) -> None:
        """Makes `train_function`, unless it is there."""

    def predict(self, x: Any, **arguments: Any) -> Any:
        """Predicts all batches of some data."""

    def test_on_batch(self, *data: Any, **arguments: Any) -> Any:
        """Evaluates one batch."""

    def reset_metrics(self) -> None:
        """Starts an epoch."""

    def _flatten_metrics_in_order(self, logs: Mapping[str, Any], /) -> Any: ...

    def _symbolic_build(self, *, data_batch: Any) -> None: ...
