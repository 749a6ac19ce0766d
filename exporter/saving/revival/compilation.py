"""A revived model is compiled: with its optimizer, or with one that stands for it."""

import warnings
from dataclasses import replace

import keras

from exporter.errors import ArgumentError
from exporter.saving.configuration.configurations import find_foreign_names
from exporter.saving.functions.own_code import find_own_methods
from exporter.saving.functions.records import LEARNING_RATE, Functions
from exporter.saving.rebuilding.compilation import compile_model
from exporter.saving.rebuilding.record import build_optimizers
from exporter.saving.revival.calling import Untracked
from exporter.saving.revival.layers import RevivedModel, make_class
from exporter.saving.revival.loaded import Loaded, RevivedSchedule
from exporter.saving.revival.saved_steps import use_saved_steps
from exporter.saving.revival.substitutes import Factory, name_substitute
from exporter.saving.state.kinds import OPTIMIZER, is_below
from exporter.text.printable import escape
from exporter.typing.keras import Model, Variable
from exporter.typing.structures import Config


class RevivedOptimizer(keras.optimizers.Optimizer):
    """An optimizer whose code is not available: it holds the state that the saved training step uses."""

    def __init__(self, loaded: Loaded, original: Config | None) -> None:
        config = (original or {}).get("config") or {}
        super().__init__(
            0.0, name=config.get("name"), gradient_accumulation_steps=config.get("gradient_accumulation_steps")
        )
        self._original = Untracked(original)
        self._variables.clear()
        variables = {
            path.removeprefix(f"{OPTIMIZER}/"): loaded.wrap(path)
            for path in loaded.record.variables
            if is_below(path, (OPTIMIZER,))
        }
        object.__setattr__(self, "revived_variables", variables)
        for variable in variables.values():
            self._track_variable(variable)
        self._iterations: Variable = variables["vars/0"]
        if isinstance(config.get("learning_rate"), float):
            self._learning_rate = variables["vars/1"]

    def update_step(self, *args: object, **kwargs: object) -> None:
        """Says that there is no code to do it."""
        raise ArgumentError(
            f"The optimizer {self.name!r} has no code here: only the saved training step can update with it. "
            "Name its class in `custom_objects` when the model is loaded, or compile the model with another optimizer."
        )

    def save_own_variables(self, store: object) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def load_own_variables(self, store: object) -> None:
        """Leaves the variables to their addresses in `revived_variables`."""

    def get_config(self) -> Config:
        """Returns the configuration of what this one stands for."""
        return {"original": self._original.value or {}}


def compile_revived(model: Model, config: Config, functions: Functions, loaded: Loaded) -> bool:
    """Compiles a revived model. Returns whether it was."""
    usable, substitutes = _substitute_schedule(config, loaded)
    custom_objects = {**loaded.request.custom_objects, **substitutes}
    request = replace(loaded.request, custom_objects=custom_objects)
    missing = [name for name in find_foreign_names(usable) if not request.is_at_hand(name)]
    lost = missing or (list(functions.methods) if isinstance(model, RevivedModel) else [])
    if lost and not functions.steps:
        what = escape(", ".join(missing)) or f"the model's own {', '.join(functions.methods)}"
        warnings.warn(
            f"The model is loaded without being compiled: {what} cannot be rebuilt without code, and no training step "
            "was saved, since the model had not been trained. Name the code in `custom_objects`, or compile the model "
            "yourself.",
            stacklevel=5,
        )
        return False
    if missing:
        warnings.warn(
            f"The model goes on training with its saved training step: {escape(', '.join(missing))} cannot be rebuilt "
            "without code. Name the code in `custom_objects` to have it back.",
            stacklevel=5,
        )
    extras = loaded.record.compile_extras or {}
    optimizer = usable.get(OPTIMIZER)
    native = isinstance(optimizer, dict) and not set(find_foreign_names(optimizer)) & set(missing)
    if lost:
        usable = {key: usable[key] for key in ("run_eagerly", "steps_per_execution", "jit_compile") if key in usable}
        usable[OPTIMIZER] = optimizer
    if not native:
        custom_objects[OPTIMIZER] = Factory(_make_optimizer(config.get(OPTIMIZER), loaded))
        usable[OPTIMIZER] = name_substitute(OPTIMIZER)
        extras = {**extras, "auto_scale_loss": False}  # what scaled the loss is part of what was revived
    compile_model(model, usable, extras, replace(request, custom_objects=custom_objects))
    build_optimizers(model, loaded.record)
    if functions.steps and (lost or not find_own_methods(model)):
        use_saved_steps(model, loaded.units, functions, config, replaceable=not lost)
    return True


def _substitute_schedule(config: Config, loaded: Loaded) -> tuple[Config, dict[str, Factory]]:
    """Puts the saved function of a learning-rate schedule in the place of one without code.

    Returns:
        The compile configuration, and what it needs.
    """
    optimizer = config.get(OPTIMIZER)
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("config"), dict):
        return config, {}
    inner: Config = optimizer["config"]
    if isinstance(inner.get("inner_optimizer"), dict):
        changed, substitutes = _substitute_schedule({OPTIMIZER: inner["inner_optimizer"]}, loaded)
        inner = {**inner, "inner_optimizer": changed[OPTIMIZER]}
        return {**config, OPTIMIZER: {**optimizer, "config": inner}}, substitutes
    schedule = inner.get("learning_rate")
    needs = find_foreign_names(schedule)
    if (
        not isinstance(schedule, dict)
        or LEARNING_RATE not in loaded.units
        or all(loaded.request.is_at_hand(name) for name in needs)
    ):
        return config, {}
    made = make_class(RevivedSchedule, schedule["class_name"])(loaded.units[LEARNING_RATE], schedule)
    inner = {**inner, "learning_rate": name_substitute(LEARNING_RATE)}
    return {**config, OPTIMIZER: {**optimizer, "config": inner}}, {LEARNING_RATE: Factory(made)}


def _make_optimizer(config: object, loaded: Loaded) -> RevivedOptimizer:
    original = config if isinstance(config, dict) else None
    made: RevivedOptimizer = make_class(RevivedOptimizer, (original or {}).get("class_name", "Optimizer"))(
        loaded, original
    )
    return made
