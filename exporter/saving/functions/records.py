"""The record of the functions in an artifact: which there are, and how they are called."""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from exporter.errors import ArtifactError
from exporter.saving.layout.documents import parse_json
from exporter.saving.layout.records import RecordError, read_record
from exporter.saving.state.kinds import OPTIMIZER
from exporter.typing.structures import Config
from exporter.typing.tensorflow import TFFunction

# The names of traced functions that are not those of a layer.
MODEL = "model"
LEARNING_RATE = f"{OPTIMIZER}/learning_rate"
STEP = "step: "


class UnitFunctions(Protocol):
    """The functions of one unit, as TensorFlow keeps and loads them: `training` is there if it differs."""

    inference: TFFunction
    training: TFFunction


class FunctionsHolder(Protocol):
    """What stands in a SavedModel for the functions of all units."""

    units: MutableMapping[str, UnitFunctions]
    resources: Sequence[object]


@dataclass(frozen=True, slots=True)
class UnitVariable:
    """One variable of a part that lives on as functions.

    Attributes:
        path: Its path in the state of the whole model.
        name: Its name.
        place: The name that tells it from others: Keras's `Variable.path`.
        regularizer: Its regulariser's configuration; one from outside Keras is traced as `<path>/regularizer`.
        constraint: Its constraint's configuration, likewise as `<path>/constraint`.
    """

    path: str
    name: str
    place: str
    regularizer: Config | None
    constraint: Config | None


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of those that a unit stands for: itself, and the layers inside it.

    Attributes:
        address: Its address in the state, or None if it has none.
        name: Its name.
        class_name: The name of its class.
        trainable: Its trainable flag.
        trained: The paths of the variables that its flag governs.
        kept: The paths of the variables that are never trained.
        seeds: The paths of the states of its seed generators.
        children: The positions of the layers inside it.
    """

    address: str | None
    name: str
    class_name: str
    trainable: bool
    trained: tuple[str, ...]
    kept: tuple[str, ...]
    seeds: tuple[str, ...]
    children: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a `call` method.

    Attributes:
        name: Its name.
        kind: Such as `POSITIONAL_OR_KEYWORD`.
        default: Its default as a list of one item; empty if it has none.
    """

    name: str
    kind: str
    default: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One way in which a layer is called inside its model.

    Attributes:
        name: The name of its functions.
        constants: For each argument, None if it is a tensor, else its text.
        masked: For each tensor, whether it comes with a mask.
    """

    name: str
    constants: tuple[str | None, ...]
    masked: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the model that lives on as functions: the model itself (`""`), or one of its layers.

    Attributes:
        path: Its address.
        position: Where it stands in the model's configuration: positions in the lists of layers, from outside in.
        needs: The names of what its configuration needs.
        parts: The layers that it stands for, itself first.
        variables: Their variables.
        parameters: Those of its `call`.
        calls: For a layer: the ways in which it is called.
        inputs: For the whole model: what it takes.
        outputs: For the whole model: what it gives, as in `Inputs.structure`.
        output_names: For the whole model: the names of its outputs, if it knows them.
        trains: Whether inference and training differ.
        supports_masking: Whether it takes masks.
        supports_jit: Whether XLA can compile it.
        dtype_policy: The configuration of its dtype policy.
    """

    path: str
    position: tuple[int, ...]
    needs: tuple[str, ...]
    parts: tuple[Part, ...]
    variables: tuple[UnitVariable, ...]
    parameters: tuple[Parameter, ...]
    calls: tuple[CallForm, ...]
    inputs: Config | None
    outputs: Any
    output_names: tuple[str, ...]
    trains: bool
    supports_masking: bool
    supports_jit: bool
    dtype_policy: Config | str


@dataclass(frozen=True, slots=True)
class Functions:
    """What is known of the functions in the artifact.

    Attributes:
        units: The parts, the whole model first.
        steps: The steps that are there, `train` and `test`, both with the losses and metrics inside, and `results`:
            the names of what they log. Those called `exact` are for the size of batch that the model was trained
            with. `evaluation` has the order in which `evaluate` returns it.
        missing: What the compile configuration needs from outside Keras.
        methods: The methods of training that the model's own class defines.
        compile_config: The compile configuration, if the model has no other.
        prediction: What the model's own `predict_step` gives, as in `Inputs.structure`; None if it has none, or none
            that could be traced.
        lost: The model's own methods of prediction that live on in no function, and why, by name.
    """

    units: tuple[Unit, ...]
    steps: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]
    methods: tuple[str, ...]
    compile_config: Config | None
    prediction: Any = None
    lost: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns JSON text for `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Functions":
        """Reads what `to_json` returned.

        Raises:
            ArtifactError: The text is damaged.
        """
        try:
            return read_record(cls, parse_json(text, "The artifact's record of functions"))
        except RecordError as error:
            raise ArtifactError(f"The artifact's record of functions is damaged: {error}.") from error
