"""The state of an optimizer of Keras 2: in slots of the variables before TensorFlow 2.11, in lists of its own since."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from exporter.errors import ArtifactError
from exporter.saving.formats.saved_model.keras_2.variables import Stored
from exporter.saving.legacy.slots import name_former_slots
from exporter.typing.keras import Model, Optimizer, Variable

# Single variables by their former names.
_NUMBERS = {
    "_iterations": ("_iterations", "iterations", "iter"),
    "_learning_rate": ("_learning_rate", "learning_rate"),
    "_u_product": ("_u_product", "momentum_cache"),
}
_OWN_LISTS = frozenset({"_variables", "_trainable_variables"})
_SCALES = {"dynamic_scale": "current_loss_scale", "step_counter": "good_steps"}
_INNER = ("inner_optimizer", "_optimizer", "base_optimizer")


def restore_optimizer(model: Model, stored: Stored, pairs: Mapping[int, Variable]) -> None:
    """Puts a model's optimizer into the state that a checkpoint holds.

    Args:
        model: The model, compiled.
        stored: The checkpoint.
        pairs: The model's variables by the numbers of the objects.

    Raises:
        ArtifactError: The checkpoint holds none, or not all of it.
    """
    number = stored.list_children(0).get("optimizer")
    if number is None:
        raise ArtifactError("the checkpoint holds no state of it")
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        number = _restore_scale(optimizer, stored, number)
        optimizer = optimizer.inner_optimizer
    _Restoring(optimizer, stored, number, pairs).restore()


def _restore_scale(optimizer: Any, stored: Stored, number: int) -> int:
    """Restores the scale of the loss. Returns the object of the optimizer inside."""
    children = stored.list_children(number)
    place = next((children[name] for name in ("_loss_scale", "loss_scale") if name in children), None)
    scale = children if place is None else stored.list_children(place)
    for attribute, name in _SCALES.items():
        if name in scale and stored.has_value(scale[name]):
            getattr(optimizer, attribute).assign(stored.read(scale[name]))
    # In TensorFlow 2.4 the outer one counted the steps and had the slots.
    inner = (children[name] for name in _INNER if name in children and "iter" not in children)
    return next(inner, number)


class _Restoring:
    """One optimizer, while it is put into its state."""

    def __init__(self, optimizer: Optimizer, stored: Stored, number: int, pairs: Mapping[int, Variable]) -> None:
        self._optimizer: Any = optimizer
        self._stored = stored
        self._number = number
        self._children = stored.list_children(number)
        self._pairs = pairs
        self._places = {id(variable): place for place, variable in enumerate(optimizer._trainable_variables)}
        self._restored: set[int] = set()

    def restore(self) -> None:
        """Restores all of it.

        Raises:
            ArtifactError: Something is not there.
        """
        if not any(name in self._children for name in _NUMBERS["_iterations"]):
            raise ArtifactError("the checkpoint does not hold its steps")
        for attribute, names in _NUMBERS.items():
            variable = getattr(self._optimizer, attribute, None)
            child = next((self._children[name] for name in names if name in self._children), None)
            if isinstance(variable, keras.Variable) and child is not None and self._stored.has_value(child):
                self._assign(variable, child)
        slots = self._stored.nodes[self._number].slot_variables
        if slots or "iter" in self._children:
            self._restore_slots()
        else:
            self._restore_lists()
        lacking = [each.path for each in self._optimizer.variables if id(each) not in self._restored]
        rate = getattr(self._optimizer, "_learning_rate", None)
        lacking = [path for path in lacking if path != getattr(rate, "path", None)]
        if lacking and not self._is_new():
            raise ArtifactError(f"the checkpoint has no value of {lacking[0]!r}")

    def _is_new(self) -> bool:
        """Tells whether it has not trained yet, when the older ones had no slots."""
        return int(self._optimizer.iterations) == 0

    def _restore_slots(self) -> None:
        kinds = name_former_slots(self._optimizer)
        for slot in self._stored.nodes[self._number].slot_variables:
            attribute = kinds.get(slot.slot_name)
            self._assign_slot(attribute, slot.original_variable_node_id, slot.slot_variable_node_id)

    def _restore_lists(self) -> None:
        trained = self._stored.list_items(self._stored.list_children(0).get("trainable_variables"))
        for name, child in self._children.items():
            items = self._stored.list_items(child)
            names = [each for each in (name, f"_{name}") if isinstance(getattr(self._optimizer, each, None), list)]
            if name in _OWN_LISTS or not items or not names:
                continue
            if len(items) != len(trained):
                raise ArtifactError(f"it trained {len(items)} variables, and the model has {len(trained)}")
            for original, item in zip(trained, items, strict=True):
                self._assign_slot(names[0], original, item)

    def _assign_slot(self, attribute: str | None, original: int, slot: int) -> None:
        variables: Sequence[Any] = getattr(self._optimizer, attribute or "", None) or ()
        place = self._places.get(id(self._pairs.get(original)))
        if place is not None and place < len(variables):
            self._assign(variables[place], slot)

    def _assign(self, variable: Variable, number: int) -> None:
        value = self._stored.read(number)
        if value.shape != tuple(variable.shape):
            raise ArtifactError(f"{variable.path} has the shape {value.shape} in the checkpoint")
        variable.assign(value)
        self._restored.add(id(variable))
