"""The state of optimizers of older Keras, by the names in the file or in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from exporter.saving.legacy.conversions import convert_weights
from exporter.saving.legacy.parts.findings import warn_of_loss
from exporter.typing.keras import Layer, Optimizer, Variable
from exporter.typing.structures import Config

Read = Callable[[str], Any]

_STEPS = {"iter", "iteration", "iterations"}
_RATES = {"learning_rate", "current_learning_rate", "lr"}
_SCALES = {"current_loss_scale": "dynamic_scale", "loss_scale": "dynamic_scale", "good_steps": "step_counter"}
_AVERAGES = "_model_variables_moving_average"


@dataclass(frozen=True, slots=True)
class _Slot:
    """One kind of slot: its name since TensorFlow 2.11, before that, and the attribute of today."""

    name: str
    before: str
    attribute: str


def _slots(*rows: str) -> tuple[_Slot, ...]:
    return tuple(_Slot(*row.split()) for row in rows)


_MOMENTS = _slots("m m _momentums", "v v _velocities", "vhat vhat _velocity_hats")
# In the order of the file. What stands in one tuple was listed side by side for each variable since 2.11.
_SLOTS: Mapping[str, tuple[tuple[_Slot, ...], ...]] = {
    "Adam": (_MOMENTS[:2], _MOMENTS[2:]),
    "AdamW": (_MOMENTS[:2], _MOMENTS[2:]),
    "SGD": (_slots("m momentum momentums"),),
    "RMSprop": (
        _slots("velocity rms _velocities"),
        _slots("momentum momentum _momentums"),
        _slots("average_gradient mg _average_gradients"),
    ),
    "Adagrad": (_slots("accumulator accumulator _accumulators"),),
    "Adadelta": (
        _slots(
            "accumulated_grad accum_grad _accumulated_grads", "accumulated_delta_var accum_var _accumulated_delta_vars"
        ),
    ),
    "Adamax": (_slots("m m _m", "u v _u"),),
    "Nadam": (_slots("m m _momentums", "v v _velocities"),),
    "Ftrl": (_slots("accumulator accumulator _accumulators", "linear linear _linears"),),
    "Lion": (_slots("m m _momentums"),),
    "Adafactor": (_slots("r r _r", "c c _c", "v v _v"),),
}


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer and what the file has for it.

    Attributes:
        layer: It.
        config: Its configuration in the file.
        names: Of its weights in the file, what is trained first.
    """

    layer: Layer
    config: Config
    names: Sequence[str]


class SlotsError(Exception):
    """The variables in a file are not those of such an optimizer."""


def restore_slots(
    optimizer: Any,
    variables: Sequence[Variable],
    names: Sequence[str],
    read: Read,
    by_name: Mapping[str, Variable],
) -> None:
    """Gives an optimizer, which is built, the state in a file.

    Args:
        optimizer: The optimizer of today, for the variables that are trained.
        variables: Those variables in the order of the file.
        names: Of the variables in the file; numbers, where they have none.
        read: Reads one of them.
        by_name: The model's variables by their names in the file.

    Raises:
        SlotsError: They do not fit.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, keras.optimizers.SGD) and not inner.momentum and not is_of_today(names):
        names = names[:1]  # it had slots, and did not use them
    targets = _find_targets(optimizer, inner, variables, names, read, by_name)
    values = {name: np.asarray(read(name)) for name in names}
    for name, target in targets.items():
        if tuple(target.shape) != values[name].shape:
            raise SlotsError(f"{name!r} has the shape {values[name].shape}, expected {tuple(target.shape)}")
    _check_whole(inner, targets, names)
    for name, target in targets.items():
        target.assign(values[name])
    given = {id(target) for target in targets.values()}
    if isinstance(inner, keras.optimizers.Nadam) and inner.built and id(inner._u_product) not in given:
        inner._u_product.assign(_multiply_momentum(inner))
        warn_of_loss("The file does not hold the product of Nadam's momenta, which is computed of the steps.")
    if optimizer is not inner and id(optimizer.iterations) not in given:
        optimizer.iterations.assign(inner.iterations)
        if id(optimizer.dynamic_scale) not in given:
            warn_of_loss("The file does not hold the scale of the loss, which begins anew.")


def _find_targets(
    outer: Optimizer,
    inner: Optimizer,
    variables: Sequence[Variable],
    names: Sequence[str],
    read: Read,
    by_name: Mapping[str, Variable],
) -> dict[str, Variable]:
    if is_of_today(names):
        if len(names) != len(outer.variables):
            raise SlotsError(f"it has {len(outer.variables)}")
        return dict(zip(names, outer.variables, strict=True))
    return dict(_find_by_name(outer, inner, names, by_name)) or _find_by_order(inner, variables, names, read)


def _check_whole(optimizer: Any, targets: Mapping[str, Variable], names: Sequence[str]) -> None:
    """Checks that each slot has its value, if there are slots in the file."""
    lone = (optimizer.iterations, optimizer._learning_rate, getattr(optimizer, "_u_product", None))
    known = {id(each) for each in (*targets.values(), *lone)}
    # Adafactor has a number in the place of what it does not factor, and Keras 2 saved none.
    lacking = [each for each in optimizer.variables if id(each) not in known and tuple(each.shape)]
    if len(names) > 1 and lacking:
        raise SlotsError(f"it has {len(names) + len(lacking)}")


def is_of_today(names: Sequence[str]) -> bool:
    """Tells whether they are names of Keras 3, which lists what an optimizer has in its own order."""
    return bool(names) and not any(":" in name or name.isdigit() for name in names)


def _multiply_momentum(optimizer: Any) -> Any:
    """Computes what Nadam multiplies step by step, and Keras 2 did not save."""
    product, half, base = np.float32(1), np.float32(0.5), np.float32(0.96)
    for step in range(1, int(optimizer.iterations) + 1):
        product *= np.float32(optimizer.beta_1) * (np.float32(1) - half * base ** np.float32(step))
        if not product:
            break
    return product


def name_former_slots(optimizer: Optimizer) -> dict[str, str]:
    """Names the attributes of an optimizer that are lists of slots, by what these were called before TensorFlow 2.11.

    Args:
        optimizer: The optimizer of today.

    Returns:
        Nothing where nothing is known of it.
    """
    return {slot.before: slot.attribute for group in _find_kinds(optimizer) for slot in group}


def _find_kinds(optimizer: Optimizer) -> tuple[tuple[_Slot, ...], ...]:
    return next((_SLOTS[kind.__name__] for kind in type(optimizer).__mro__ if kind.__name__ in _SLOTS), ())


def _list_kinds(optimizer: Optimizer) -> tuple[tuple[_Slot, ...], ...]:
    kinds = _find_kinds(optimizer)
    if not kinds:
        raise SlotsError(f"nothing is known of the variables of {type(optimizer).__name__}")
    return kinds


def _find_slot(optimizer: Any, attribute: str, variable: Variable) -> Variable | None:
    slots = getattr(optimizer, attribute, None) or []
    try:
        slot: Variable = slots[optimizer._get_variable_index(variable)]
        return slot
    except LookupError:  # it is not trained
        return None


def _find_by_name(
    outer: Optimizer, inner: Optimizer, names: Sequence[str], by_name: Mapping[str, Variable]
) -> Iterator[tuple[str, Variable]]:
    """Finds the place of each variable by its name; of none, where one of them is unknown."""
    known = {name.partition(":")[0]: variable for name, variable in by_name.items()}
    lone = {**dict.fromkeys(_STEPS, inner.iterations), "momentum_cache": getattr(inner, "_u_product", None)}
    if isinstance(inner._learning_rate, keras.Variable):
        lone.update(dict.fromkeys(_RATES, inner._learning_rate))
    lone.update({name: getattr(outer, attribute, None) for name, attribute in _SCALES.items()})
    found: list[tuple[str, Variable]] = []
    for name in names:
        parts = name.partition(":")[0].split("/")
        target = _find_named_slot(inner, parts, known)
        target = lone.get(parts[-1]) if target is None else target
        if target is None:
            return
        found.append((name, target))
    if len({id(target) for _, target in found}) == len(found):
        yield from found


def _find_named_slot(optimizer: Optimizer, parts: list[str], known: Mapping[str, Variable]) -> Variable | None:
    """Finds a slot by a name such as `Adam/m/dense/kernel`, or `Adam/dense/kernel/m` before TensorFlow 2.11."""
    kinds = [slot for group in _list_kinds(optimizer) for slot in group]
    after = {slot.name: slot.attribute for slot in kinds} | {"average": _AVERAGES}
    before = name_former_slots(optimizer)
    for start in range(len(parts)):
        variable = known.get("/".join(parts[start + 1 :]))
        if variable is not None and parts[start] in after:
            return _find_slot(optimizer, after[parts[start]], variable)
        variable = known.get("/".join(parts[start:-1]))
        if variable is not None and parts[-1] in before:
            return _find_slot(optimizer, before[parts[-1]], variable)
    return None


def _find_by_order(
    optimizer: Any, variables: Sequence[Variable], names: Sequence[str], read: Read
) -> dict[str, Variable]:
    """Finds the places by the order of the file: a list of kinds, or side by side since TensorFlow 2.11."""
    groups = [
        kept
        for group in _list_kinds(optimizer)
        if (kept := tuple(slot for slot in group if getattr(optimizer, slot.attribute, None)))
    ]
    steps = [optimizer.iterations]
    averages = [_find_slot(optimizer, _AVERAGES, each) for each in variables] if optimizer.use_ema else []
    side_by_side = [_find_slot(optimizer, slot.attribute, v) for group in groups for v in variables for slot in group]
    kind_by_kind = [_find_slot(optimizer, slot.attribute, v) for group in groups for slot in group for v in variables]
    side_by_side, kind_by_kind = (
        [slot for slot in listed if slot is None or tuple(slot.shape) or groups[0][0].attribute != "_r"]
        for listed in (side_by_side, kind_by_kind)
    )
    shapes = [np.shape(read(name)) for name in names]
    # Numbers are from since 2.12; before, Keras listed kind by kind, and some optimizers counted no steps.
    numbered = all(name.isdigit() for name in names)
    orders: list[list[Variable | None]] = [[*steps, *averages, *side_by_side]]
    if not numbered:
        orders = [[*steps, *kind_by_kind], kind_by_kind, *orders]
        if isinstance(optimizer, keras.optimizers.Nadam):
            orders.append([*steps, optimizer._u_product, *kind_by_kind])
        if isinstance(optimizer, keras.optimizers.Adam):  # without AMSGrad there was a number in the place of each
            orders.append([*steps, *kind_by_kind, *[None] * len(variables)])
    for order in (*orders, list[Variable | None](steps)):
        if len(order) == len(shapes) and all(
            shape == (tuple(each.shape) if each is not None else (1,))
            for each, shape in zip(order, shapes, strict=True)
        ):
            return {name: target for name, target in zip(names, order, strict=True) if target is not None}
    raise SlotsError(f"it has {len(orders[0])}")


def restore_keras_1(
    optimizer: Optimizer, layers: Sequence[StoredLayer], names: Sequence[str], read: Read, version: str, backend: str
) -> None:
    """Gives an optimizer, which is built, the state that Keras 1 wrote: of the weights in the order of their names.

    Args:
        optimizer: The optimizer of today.
        layers: The layers with weights.
        names: Of the optimizer's variables in the file.
        read: Reads one of them.
        version: The version of Keras.
        backend: What it computed with.

    Raises:
        SlotsError: They do not fit.
    """
    trained = {}
    for stored in layers:
        if stored.layer.trainable_weights:
            count = len(stored.names) - len(stored.layer.non_trainable_weights)
            trained[id(stored)] = (stored, stored.names[:count])
    order = sorted(name for _, listed in trained.values() for name in listed)
    kinds = [slot for group in _list_kinds(optimizer) for slot in group if getattr(optimizer, slot.attribute, None)]
    values = [np.asarray(read(name)) for name in names]
    if len(values) % max(1, len(order)) == 1 and values[0].shape == ():
        optimizer.iterations.assign(values.pop(0))
    if len(values) != len(kinds) * len(order):
        raise SlotsError(f"it has {len(kinds) * len(order)}")
    for number, kind in enumerate(kinds):
        arrays = dict(zip(order, values[number * len(order) :], strict=False))
        for stored, listed in trained.values():
            converted = convert_weights(stored.config, [arrays[name] for name in listed], version, backend)
            for variable, array in zip(stored.layer.trainable_weights, converted, strict=True):
                slot = _find_slot(optimizer, kind.attribute, variable)
                if slot is None or tuple(slot.shape) != np.shape(array):
                    raise SlotsError(f"that of {variable.path} has another shape")
                slot.assign(array)
