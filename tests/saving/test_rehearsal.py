"""Saved means loadable: a configuration that makes another model, and parts of `compile` that cannot be made again."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter.errors import ModelError
from exporter.saving.contents import Omission
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import collect_state, to_array

ROWS = np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(8, 4)
TARGETS = np.linspace(0.0, 1.0, 16, dtype=np.float32).reshape(8, 2)

NAMES = ["model", "model.keras", "model.h5"]
REMEDY = (
    "Give its class a `get_config` that returns the arguments of its constructor, or compile the loaded model anew."
)

register = keras.saving.register_keras_serializable("rehearsal")


@register
class Context(keras.Model):
    """Has weights that only a second argument of a call makes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(2), keras.layers.Dense(2)

    def call(self, inputs: Any, context: Any = None) -> Any:
        outputs = self.first(inputs)
        return outputs if context is None else outputs + self.second(context)


@register
class Forgetful(keras.layers.Layer):
    """Its configuration forgets how many units it has."""

    def __init__(self, units: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, inputs: Any) -> Any:
        return keras.ops.matmul(inputs, self.kernel)

    def get_config(self) -> dict[str, Any]:
        return keras.layers.Layer.get_config(self)  # type: ignore[no-any-return]


@register
class Mindful(Forgetful):
    """Follows the remedy."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def make_context() -> keras.Model:
    model = Context(name="asked")
    model(ROWS, context=ROWS)
    return model


def make_sharing() -> keras.Model:
    """Two models inside, which share a layer: Keras makes two layers of it."""
    shared = keras.layers.Dense(4, name="shared")
    parts = []
    for name in ("left", "right"):
        inputs = keras.Input((4,))
        parts.append(keras.Model(inputs, shared(inputs), name=name))
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(parts[1](parts[0](inputs))), name="asked")


def make_lambda() -> keras.Model:
    """Keras writes the lambda, and cannot read it again."""
    return make_plain(keras.layers.Dense(2, activation=lambda inputs: inputs * 2.0))


def make_plain(layer: keras.layers.Layer | None = None) -> keras.Model:
    layers = [keras.Input((4,)), keras.layers.Dense(2), *([] if layer is None else [layer])]
    return keras.Sequential(layers, name="asked")


OWN = (
    "Let `get_config` of each of its classes return all arguments of its constructor, and `build` make all of its "
    "weights; or save it with save_format='tf', where it is stored as TensorFlow functions."
)
KERAS = "Save it with save_format='tf', where it is stored as TensorFlow functions."
REBUILT = "the model made from the configuration"
MISFITS = [
    pytest.param(
        make_context,
        f"{REBUILT} has no layers/dense_1/vars/0, {REBUILT} has no layers/dense_1/vars/1",
        OWN,
        id="argument",
    ),
    pytest.param(
        make_sharing,
        "the original has no layers/functional_1/layers/dense/vars/0, the original has no "
        "layers/functional_1/layers/dense/vars/1",
        KERAS,
        id="shared layer",
    ),
    pytest.param(
        lambda: make_plain(Forgetful(3)),
        f"layers/forgetful/vars/0 has shape (2, 2) in {REBUILT} and (2, 3) in the original",
        OWN,
        id="lost argument",
    ),
]


@pytest.mark.parametrize(("make", "why", "remedy"), MISFITS)
def test_a_configuration_that_makes_another_model_is_refused(make: Any, why: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        exporter.save_model(make(), tmp_path / "model.keras")
    message = f"The configuration of the model 'asked' does not make the same model again: {why}. {remedy}"
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_lambda_that_keras_cannot_read_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Could not interpret activation function identifier"):
        exporter.save_model(make_lambda(), tmp_path / "model.keras")
    model = make_lambda()
    with pytest.warns(UserWarning, match="does not hold everything. Keras configuration"):
        path = exporter.save_model(model, tmp_path / "model")
    loaded = exporter.load_model(path)
    np.testing.assert_array_equal(loaded(ROWS), model(ROWS))


@pytest.mark.parametrize(("make", "why", "remedy"), MISFITS)
def test_its_functions_live_on_in_a_saved_model(make: Any, why: str, remedy: str, tmp_path: Path) -> None:
    model = make()
    contents = plan_save(SaveRequest(model, tmp_path / "model")).write(tmp_path / "model")
    left_out = [(each.what, each.why) for each in contents.left_out if not each.intended]
    text = (
        f"The configuration of the model 'asked' does not make the same model again: {why}. The artifact holds the "
        "model as TensorFlow functions instead"
    )
    assert left_out == [("Keras configuration", text)]
    loaded = exporter.load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded(ROWS), model(ROWS))
    expected, received = collect_state(model), collect_state(loaded)
    assert expected.keys() == received.keys()
    assert all(np.array_equal(to_array(expected[path]), to_array(received[path])) for path in expected)


def test_the_other_remedy_works(tmp_path: Path) -> None:
    model = make_plain(Mindful(3))
    for name in NAMES:
        loaded = exporter.load_model(exporter.save_model(model, tmp_path / name))
        assert isinstance(loaded.layers[1], Mindful)
        np.testing.assert_array_equal(loaded(ROWS), model(ROWS))


def test_hdf5_recommends_what_can_hold_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        exporter.save_model(make_context(), tmp_path / "model.h5")
    assert str(caught.value) == (
        "HDF5 cannot hold the subclassed model 'asked' (Context): its layout knows the layers of Sequential and "
        "Functional models only, by their order. Save it with save_format='tf'."
    )
    with pytest.warns(UserWarning, match="does not hold everything. Keras configuration"):
        exporter.save_model(make_context(), tmp_path / "model", save_format="tf")


@register
class Plain(keras.Model):
    """Uses what is attached to it, if it is told to."""

    def __init__(self, uses_it: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.uses_it = uses_it
        self.last = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.last(inputs) * (self.gain if self.uses_it else 1.0)


def make_attached(uses_it: bool) -> keras.Model:
    model = Plain(uses_it, name="asked")
    model.gain = tf.Variable(3.0)
    model(ROWS)
    return model


@pytest.mark.parametrize("name", ["model", "model.keras"])
def test_what_is_attached_to_a_model_that_does_not_use_it_is_no_state(name: str, tmp_path: Path) -> None:
    model = make_attached(uses_it=False)
    loaded = exporter.load_model(exporter.save_model(model, tmp_path / name))
    np.testing.assert_array_equal(loaded(ROWS), model(ROWS))
    assert type(loaded) is Plain


def test_what_is_attached_to_a_model_that_uses_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not make the same model again"):
        exporter.save_model(make_attached(uses_it=True), tmp_path / "model.keras")


class Stairs(keras.optimizers.schedules.LearningRateSchedule):
    """Has no configuration."""

    def __call__(self, step: Any) -> Any:
        return 0.1 / (1.0 + keras.ops.cast(step, "float32"))


class Weighted(keras.losses.Loss):
    """Its configuration lacks an argument."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.weight * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Mean(keras.metrics.Mean):
    """Likewise."""

    def __init__(self, weight: float) -> None:
        super().__init__(name="weighted")
        self.weight = weight

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().update_state(y_pred * self.weight)


class Scaled(keras.optimizers.SGD):
    """Likewise."""

    def __init__(self, scale: float) -> None:
        super().__init__(0.1, momentum=0.9)
        self.scale = scale


LACKS = (
    "__init__() got an unexpected keyword argument 'name'. Check the class that is named here, and that the "
    "`from_config` of each class rebuilds the objects that its `get_config` holds."
)
PARTS = [
    pytest.param(
        lambda: {"optimizer": keras.optimizers.Adam(Stairs()), "loss": "mse", "metrics": ["mae"]},
        "learning-rate schedule Stairs",
        "it cannot be made again: Learning rate schedule 'Stairs' must override `get_config()` in order to be "
        f"serializable. The optimizer goes on with the rate of this step, 0.05. {REMEDY}",
        id="schedule",
    ),
    pytest.param(
        lambda: {"optimizer": "adam", "loss": Weighted(2.0), "metrics": ["mae"]},
        "loss Weighted",
        f"it cannot be made again: Weighted.{LACKS} {REMEDY}",
        id="loss",
    ),
    pytest.param(
        lambda: {"optimizer": "adam", "loss": "mse", "metrics": [Mean(2.0), "mae"]},
        "metric Mean",
        f"it cannot be made again: Mean.{LACKS} {REMEDY}",
        id="metric",
    ),
    pytest.param(
        lambda: {"optimizer": Scaled(2.0), "loss": "mse", "metrics": ["mae"]},
        "optimizer Scaled",
        f"it cannot be made again: Scaled.{LACKS} {REMEDY}",
        id="optimizer",
    ),
]


def make_compiled(arguments: dict[str, Any]) -> keras.Model:
    keras.utils.set_random_seed(4)
    model = make_plain()
    model.compile(**arguments)
    model.fit(ROWS, TARGETS, verbose=0)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("arguments", "what", "why"), PARTS)
def test_a_part_that_cannot_be_made_again_costs_itself_alone(
    arguments: Any, what: str, why: str, name: str, tmp_path: Path
) -> None:
    model = make_compiled(arguments())
    contents = plan_save(SaveRequest(model, tmp_path / name)).write(tmp_path / name)
    assert [(each.what, each.why) for each in contents.left_out if not each.intended] == [(what, why)]
    loaded = exporter.load_model(tmp_path / name)
    np.testing.assert_array_equal(loaded(ROWS), model(ROWS))
    expected, received = collect_state(model), collect_state(loaded)
    assert expected.keys() == received.keys()
    assert all(np.array_equal(to_array(expected[path]), to_array(received[path])) for path in expected)
    assert loaded.compiled
    assert (loaded.loss is None) == what.startswith("loss")
    assert (loaded.optimizer is None) == what.startswith("optimizer")
    if loaded.optimizer is not None:
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
        np.testing.assert_allclose(loaded.optimizer.learning_rate, model.optimizer.learning_rate)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("arguments", "what", "why"), PARTS)
def test_without_the_optimizer_nobody_asks_for_its_parts(
    arguments: Any, what: str, why: str, name: str, tmp_path: Path
) -> None:
    plan = plan_save(SaveRequest(make_compiled(arguments()), tmp_path / name, include_optimizer=False))
    assert [each.what for each in plan.write(tmp_path / name).left_out if not each.intended] == []
    assert not exporter.load_model(tmp_path / name).compiled


def test_the_remedy_for_a_part_works(tmp_path: Path) -> None:
    model = make_compiled({"optimizer": Scaled(2.0), "loss": "mse"})
    with pytest.warns(UserWarning, match="does not hold everything") as caught:
        path = exporter.save_model(model, tmp_path / "model.keras")
    assert [str(each.message) for each in caught] == [
        f"{path} does not hold everything. optimizer Scaled: it cannot be made again: Scaled.{LACKS} {REMEDY}"
    ]
    loaded = exporter.load_model(path)
    loaded.compile(Scaled(2.0), "mse")
    loaded.fit(ROWS, TARGETS, verbose=0)


@register
class Compiling(keras.Model):
    """Compiles itself in its constructor, with arguments of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.last = keras.layers.Dense(2)
        self.compile()

    def call(self, inputs: Any) -> Any:
        return self.last(inputs)

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", *, temperature: float = 1.0, **kwargs: Any) -> None:
        optimizer = keras.optimizers.Adam(0.01) if optimizer == "auto" else optimizer
        super().compile(optimizer=optimizer, loss="mse" if loss == "auto" else loss, **kwargs)
        self.temperature = temperature


@pytest.mark.parametrize("name", ["model", "model.keras"])
def test_a_class_that_compiles_itself_is_compiled_as_it_was(name: str, tmp_path: Path) -> None:
    model = Compiling()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mae", temperature=0.5, steps_per_execution=2)
    model.fit(ROWS, TARGETS, verbose=0)
    loaded = exporter.load_model(exporter.save_model(model, tmp_path / name))
    assert type(loaded.optimizer) is keras.optimizers.SGD
    assert (loaded.loss, loaded.temperature, loaded.steps_per_execution) == ("mae", 0.5, 2)
    model.fit(ROWS, TARGETS, verbose=0, shuffle=False)
    loaded.fit(ROWS, TARGETS, verbose=0, shuffle=False)
    expected, received = collect_state(model), collect_state(loaded)
    assert expected.keys() == received.keys()
    assert all(np.array_equal(to_array(expected[path]), to_array(received[path])) for path in expected)


@register
class Forgetting(Compiling):
    """Keeps an argument of its `compile` under another name."""

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", *, temperature: float = 1.0, **kwargs: Any) -> None:
        super().compile(optimizer, loss, **kwargs)
        del self.temperature
        self.heat = temperature


def test_an_argument_that_nothing_tells_is_said(tmp_path: Path) -> None:
    model = Forgetting()
    model.compile(temperature=0.5)
    model(ROWS)
    contents = plan_save(SaveRequest(model, tmp_path / "model.keras")).write(tmp_path / "model.keras")
    assert [(each.what, each.why) for each in contents.left_out if not each.intended] == [
        (
            "argument temperature of compile",
            "the model has no attribute 'temperature' that tells it, so the loaded model is compiled with its default. "
            "Keep it as an attribute of its name",
        )
    ]
    assert exporter.load_model(tmp_path / "model.keras").heat == 1.0


@register
class Hidden(keras.Model):
    """Its `compile` keeps an argument under another name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.last = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.last(inputs)

    def compile(self, second_optimizer: Any, factor: float) -> None:
        super().compile("sgd", "mse")
        self.second_optimizer = second_optimizer
        self.kept = factor


def test_optimizers_are_put_back_where_the_arguments_of_compile_cannot_be_told(tmp_path: Path) -> None:
    model = Hidden()
    model.compile(keras.optimizers.Adam(0.01), 2.0)
    model.fit(ROWS, TARGETS, verbose=0)
    model.second_optimizer.build(model.trainable_variables)
    contents = plan_save(SaveRequest(model, tmp_path / "model.keras")).write(tmp_path / "model.keras")
    assert [(each.what, each.why) for each in contents.left_out if not each.intended] == [
        (
            "compile of Hidden",
            "it needs factor, and the model has no attribute of that name that can be saved. The loaded model gets its "
            "optimizers, and its own `compile` is not called. Keep each argument as an attribute of its name, or give "
            "the class `get_compile_config` and `compile_from_config`",
        )
    ]
    loaded = exporter.load_model(tmp_path / "model.keras")
    assert type(loaded.second_optimizer) is keras.optimizers.Adam
    assert len(loaded.second_optimizer.variables) == len(model.second_optimizer.variables)


@register
class Built(keras.layers.Layer):
    """Has a `build` of its own, which Keras wraps on each object, and replaces a method whenever it is made."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.call = tf.function(self.call)  # type: ignore[method-assign]

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


def list_lost(model: keras.Model, path: Path, save_format: str) -> tuple[Omission, ...]:
    return plan_save(SaveRequest(model, path, format=save_format)).left_out


@pytest.mark.parametrize("save_format", ["tf", "h5", "keras"])
def test_a_method_that_was_set_on_an_object_is_said_to_be_lost(save_format: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), Built(name="scale"), keras.layers.Dense(2, name="scores")], name="own")
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    assert list_lost(model, tmp_path / "whole", save_format) == ()

    model.predict_step = lambda data: 2.0 * model(data)
    inner = model.layers[1].call
    model.layers[1].call = lambda inputs, training=None: 2.0 * inner(inputs)
    why = "it was set on the object, and another object is made of its class; define the method in a class"
    lost = list_lost(model, tmp_path / "changed", save_format)
    assert lost == (Omission("predict_step of own", why), Omission("call of scores", why))
