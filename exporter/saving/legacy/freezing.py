"""Models inside a model that were frozen: Keras before 2.4 did not write that, and gave them no slots."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import keras

from exporter.typing.keras import Model, Variable

# More models inside of each other than that, and their combinations are not tried.
_MOST = 10

Shape = tuple[int, ...]


def freeze_as_stored(model: Model, slots: Sequence[Shape]) -> list[str]:
    """Freezes the models inside for which an optimizer's state has no slots.

    Args:
        model: The model, compiled; its optimizer is not built.
        slots: The shapes of the optimizer's variables, numbers left out.

    Returns:
        The names of those that were frozen; empty where the slots are for everything that is trained, or where they
        fit several choices or none.
    """
    if _fit(slots, model.trainable_variables):
        return []
    inner = [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, keras.Model)]
    inner = [each for each in inner if each.trainable_variables]
    choices = [
        chosen
        for count in range(1, len(inner) + 1 if len(inner) <= _MOST else 1)
        for chosen in combinations(inner, count)
        if _fit(slots, _list_without(model, chosen))
    ]
    if len(choices) != 1:
        return []
    for each in choices[0]:
        each.trainable = False
    return [each.name for each in choices[0]]


def _list_without(model: Model, frozen: Iterable[Model]) -> list[Variable]:
    left_out = {id(variable) for each in frozen for variable in each.trainable_variables}
    return [variable for variable in model.trainable_variables if id(variable) not in left_out]


def _fit(slots: Sequence[Shape], variables: Sequence[Variable]) -> bool:
    """Whether there are as many slots of each shape as there are variables, or so many times as many."""
    if not variables:
        return not slots
    times, rest = divmod(len(slots), len(variables))
    shapes = Counter(tuple(variable.shape) for variable in variables)
    return not rest and times > 0 and Counter(slots) == Counter({shape: times * n for shape, n in shapes.items()})
