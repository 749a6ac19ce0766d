"""What one artifact gives: its functions, its variables as Keras's, and the code that is available."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.configuration.faults import keras_explained
from exporter.saving.functions.records import UnitFunctions, UnitVariable
from exporter.saving.rebuilding.record import StateRecord
from exporter.saving.requests import LoadRequest
from exporter.saving.revival.calling import Untracked, list_specs
from exporter.saving.safety.configurations import check_configuration
from exporter.saving.state.resources import Table
from exporter.typing.keras import Variable
from exporter.typing.structures import Config
from exporter.typing.tensorflow import Tensor, TFVariable


@dataclass(slots=True)
class Loaded:
    """What one artifact gives.

    Attributes:
        units: The functions of every unit, by name.
        record: What is known of the state.
        values: The variables, by path.
        request: What is asked of the load, with the code that is available.
        tables: The lookup tables, by path.
        wrapped: The Keras variables that were made of them so far.
    """

    units: Mapping[str, UnitFunctions]
    record: StateRecord
    values: Mapping[str, TFVariable]
    request: LoadRequest = field(default_factory=LoadRequest)
    tables: Mapping[str, Table] = field(default_factory=dict)
    wrapped: dict[str, Variable] = field(default_factory=dict)

    def wrap(self, path: str, item: UnitVariable | None = None) -> Variable:
        """Returns a Keras variable over the variable at `path`; always the same one."""
        if path not in self.wrapped:
            value, name = self.values[path], path.rpartition("/")[2]
            variable = keras.Variable(
                lambda shape, dtype: tf.zeros((), dtype), shape=(), dtype=value.dtype.name, name=name
            )
            self.wrapped[path] = adopt_value(variable, value, self.record.variables[path].trainable)
            if item is not None:
                variable._name, variable._path = item.name, item.place
                variable.regularizer = self.revive_function(path, "regularizer", item.regularizer)
                variable.constraint = self.revive_function(path, "constraint", item.constraint)
        return self.wrapped[path]

    def revive_function(self, path: str, kind: str, config: Config | None) -> object:
        """Rebuilds a regulariser or a constraint, from its function if its code is missing."""
        if config is None:
            return None
        if all(self.request.is_at_hand(name) for name in find_foreign_names(config)):
            check_configuration(config, self.request.custom_objects)
            given = dict(self.request.custom_objects)
            with keras_explained(f"the {kind} of {path!r}"):
                return keras.saving.deserialize_keras_object(config, given)
        made = RevivedRegularizer if kind == "regularizer" else RevivedConstraint
        return made(self.units[f"{path}/{kind}"], config)


class _RevivedFunction:
    """A function of one tensor that lives on without its code."""

    def __init__(self, functions: UnitFunctions, original: Config) -> None:
        self._functions = Untracked(functions)
        self._original = Untracked(original)

    def __call__(self, value: object) -> Tensor:
        function = self._functions.value.inference
        outputs: Tensor = function(tf.cast(keras.ops.convert_to_tensor(value), list_specs(function)[0].dtype))
        return outputs

    def get_config(self) -> Config:
        """Returns the configuration of what this one stands for."""
        return {"original": self._original.value}


class RevivedRegularizer(_RevivedFunction, keras.regularizers.Regularizer):
    """A regulariser whose code is not available."""


class RevivedConstraint(_RevivedFunction, keras.constraints.Constraint):
    """A constraint whose code is not available."""


class RevivedSchedule(_RevivedFunction, keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule whose code is not available."""


def adopt_value(variable: Variable, value: TFVariable, trainable: bool) -> Variable:
    """Puts an existing TensorFlow variable in the place of a Keras variable's own."""
    variable._value = value
    variable._shape = tuple(value.shape)
    variable.trainable = trainable
    return variable
