"""Every optimizer of Keras, alone and with everything that an optimizer can be told."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import layers
from keras.optimizers import schedules

from .case import CASES, Case, Data, Way, classes, compiled, numbers

# These two wrap others and are made by functions below.
WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)


def find_optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Returns every optimizer class that Keras ships, by name."""
    return {
        name: value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
        and value is not keras.optimizers.Optimizer
    }


def _add(
    name: str, make: Callable[[], keras.optimizers.Optimizer], way: Way = "fit", loss_is_scaled: bool = False
) -> None:
    def build() -> keras.Model:
        # Keras cannot unscale the sparse gradients of an embedding.
        first = layers.Dense(2) if loss_is_scaled else layers.Embedding(5, 2, name="embedding")
        parts = [first, layers.Flatten(), layers.Dense(3, "tanh", name="hidden"), layers.Dense(2, name="last")]
        model = keras.Sequential([keras.Input((3,), dtype=None if loss_is_scaled else "int32"), *parts])
        compiled(model, optimizer=make())
        # If the first step made the slots, Keras would trace it twice.
        model.optimizer.build(model.trainable_variables)
        return model

    def make_data() -> Data:
        return Data(numbers(3) if loss_is_scaled else classes(5, 3), numbers(2, seed=1))

    CASES[name] = Case(
        build, make_data, before=way, after=way, predicts=name == "Adam_plain", stock_formats=("h5", "keras")
    )


EVERYTHING: dict[str, Any] = {
    "weight_decay": 0.01,
    "clipnorm": 0.5,
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 2,
    "gradient_accumulation_steps": 2,
    "loss_scale_factor": 4.0,
}


def _make_plain(kind: Callable[..., keras.optimizers.Optimizer]) -> keras.optimizers.Optimizer:
    return kind(learning_rate=0.02)


def _make_with_everything(kind: Callable[..., keras.optimizers.Optimizer]) -> keras.optimizers.Optimizer:
    return kind(learning_rate=schedules.ExponentialDecay(0.02, 2, 0.9), **EVERYTHING)


def _make_scheduled(schedule: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(type(schedule).from_config(schedule.get_config()), 0.9)


for _name, _kind in find_optimizers().items():
    if _kind not in WRAPPERS:
        _add(f"{_name}_plain", partial(_make_plain, _kind))
        _add(
            f"{_name}_with_everything",
            partial(_make_with_everything, _kind),
            "train_on_batch",
            loss_is_scaled=True,
        )

_add("Adam_amsgrad", lambda: keras.optimizers.Adam(0.02, amsgrad=True))
_add("AdamW_amsgrad", lambda: keras.optimizers.AdamW(0.02, amsgrad=True))
_add("SGD_momentum", lambda: keras.optimizers.SGD(0.02, momentum=0.9))
_add("SGD_nesterov", lambda: keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True))
_add("RMSprop_centered_momentum", lambda: keras.optimizers.RMSprop(0.02, momentum=0.9, centered=True))
_add("Muon_without_nesterov", lambda: keras.optimizers.Muon(0.02, nesterov=False, exclude_layers=["last"]))
_add("ScheduleFreeAdamW_warmup", lambda: keras.optimizers.ScheduleFreeAdamW(0.02, warmup_steps=4))
_add("Adafactor_relative_step", lambda: keras.optimizers.Adafactor(0.02, beta_2_decay=-0.7, relative_step=False))
_add("Ftrl_regularized", lambda: keras.optimizers.Ftrl(0.02, l1_regularization_strength=0.01, beta=0.1))

for _option, _value in {
    "weight_decay": 0.01,
    "clipnorm": 0.1,
    "clipvalue": 0.01,
    "global_clipnorm": 0.1,
    "loss_scale_factor": 8.0,
    "gradient_accumulation_steps": 2,
}.items():
    _add(
        f"Adam_{_option}",
        partial(keras.optimizers.Adam, 0.02, **{_option: _value}),
        loss_is_scaled=_option == "loss_scale_factor",
    )
_add("Adam_average_at_the_end_of_fit", lambda: keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.5))
_add(
    "Adam_average_every_two_steps",
    lambda: keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
)
_add("SGD_average_batch_by_batch", lambda: keras.optimizers.SGD(0.02, momentum=0.5, use_ema=True), "train_on_batch")


for _schedule in (
    schedules.ExponentialDecay(0.05, 2, 0.5, staircase=True),
    schedules.InverseTimeDecay(0.05, 2, 0.5),
    schedules.PolynomialDecay(0.05, 4, 0.01, power=2.0, cycle=True),
    schedules.PiecewiseConstantDecay([1, 3], [0.05, 0.02, 0.01]),
    schedules.CosineDecay(0.01, 4, warmup_target=0.05, warmup_steps=2),
    schedules.CosineDecayRestarts(0.05, 2),
):
    _add(
        f"SGD_{type(_schedule).__name__}",
        partial(_make_scheduled, _schedule),
    )


@keras.saving.register_keras_serializable("zoo")
class Staircase(schedules.LearningRateSchedule):
    """A schedule of a user's own."""

    def __call__(self, step: Any) -> Any:
        return 0.05 / (1.0 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


@keras.saving.register_keras_serializable("zoo")
def steady_rate() -> float:
    return 0.03


_add("Adam_own_schedule", lambda: keras.optimizers.Adam(Staircase()))
_add("Adam_rate_from_function", lambda: keras.optimizers.Adam(steady_rate))


@keras.saving.register_keras_serializable("zoo")
class Momentum(keras.optimizers.Optimizer):
    """An optimizer of a user's own, with a slot and a scalar."""

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.slots = self.add_optimizer_variables(variables, "slot")
        self.factor = self.add_variable(shape=(), initializer="ones", name="factor")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        slot = self.slots[self._get_variable_index(variable)]
        self.assign(self.factor, self.factor * 0.99)
        self.assign(slot, slot * 0.9 + gradient * self.factor)
        self.assign_sub(variable, slot * learning_rate)


_add("own_optimizer", lambda: Momentum(learning_rate=0.02))

LossScale = keras.optimizers.LossScaleOptimizer
_add("LossScaleOptimizer_plain", lambda: LossScale(keras.optimizers.Adam(0.02), 64.0, 2))
_add(
    "LossScaleOptimizer_of_everything",
    lambda: LossScale(keras.optimizers.SGD(0.02, momentum=0.9, **{**EVERYTHING, "loss_scale_factor": None}), 64.0, 2),
)


def _multi(**options: Any) -> keras.optimizers.Optimizer:
    chosen = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.02, momentum=0.9),
        {".*embedding.*": keras.optimizers.Adam(0.02, amsgrad=True), ".*last.*": keras.optimizers.RMSprop(0.01)},
    )
    return keras.optimizers.MultiOptimizer(chosen, **options)


_add("MultiOptimizer_plain", _multi)
_add("MultiOptimizer_loss_scale_factor", lambda: _multi(loss_scale_factor=4.0), "train_on_batch", loss_is_scaled=True)
_add("LossScaleOptimizer_of_MultiOptimizer", lambda: LossScale(_multi(), 16.0, 2))
