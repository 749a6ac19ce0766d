"""Ways to compile a model, and not to."""

import keras
from keras import layers

from .case import Data, case, classes, compiled, numbers, regression


def _dense() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dropout(0.2), layers.Dense(2)])


@case(regression(3), before="none", after="none")
def uncompiled() -> keras.Model:
    return _dense()


@case(regression(3), before="none")
def compiled_but_untrained() -> keras.Model:
    return compiled(_dense())


@case(regression(3), before="none")
def compiled_with_built_optimizer() -> keras.Model:
    model = compiled(_dense())
    model.optimizer.build(model.trainable_variables)
    return model


@case(regression(3))
def partly_frozen_after_compile() -> keras.Model:
    model = compiled(_dense())
    model.layers[0].trainable = False
    return model


def _freeze_first(model: keras.Model) -> None:
    model.layers[0].trainable = False


def _freeze_first_and_trace_again(model: keras.Model) -> None:
    model.layers[0].trainable = False
    # Keras goes on with the step that it traced, in which the layer is trained, until it traces again.
    model.make_train_function(force=True)


@case(regression(3), spoil=_freeze_first_and_trace_again)
def partly_frozen_after_training() -> keras.Model:
    return compiled(_dense())


@case(regression(3))
def unfrozen_after_compile() -> keras.Model:
    model = _dense()
    model.layers[0].trainable = False
    compiled(model)
    model.optimizer.build(list(model.variables)[:2] + model.trainable_variables)
    model.layers[0].trainable = True
    return model


@case(regression(3))
def steps_per_execution() -> keras.Model:
    return compiled(_dense(), steps_per_execution=2)


@case(regression(3))
def run_eagerly() -> keras.Model:
    return compiled(_dense(), run_eagerly=True)


@case(regression(3), before="train_on_batch", after="train_on_batch")
def batch_by_batch() -> keras.Model:
    return compiled(_dense(), metrics=["mae"])


@case(regression(3), before="fit", after="train_on_batch")
def fit_then_batch_by_batch() -> keras.Model:
    return compiled(_dense(), metrics=["mae"])


@case(lambda: Data(numbers(3), classes(2), abs(numbers())))
def alias_names_of_loss_and_metrics() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, "softmax")])
    return compiled(
        model,
        "crossentropy",
        "adam",
        metrics=["acc", keras.metrics.SparseTopKCategoricalAccuracy(1)],
        weighted_metrics=["accuracy"],
    )


@case(regression(3))
def loss_by_alias() -> keras.Model:
    return compiled(_dense(), "mse", metrics=["mse", "mae", "cosine_similarity"])


@case(regression(3))
def loss_by_function() -> keras.Model:
    return compiled(_dense(), keras.losses.mean_absolute_error, metrics=[keras.metrics.mean_squared_error])


@case(lambda: Data(numbers(3), [abs(numbers(2, seed=1)), abs(numbers(2, seed=2))]))
def arguments_of_losses_that_keras_forgets() -> keras.Model:
    inputs = keras.Input((3,))
    outputs = [layers.Dense(2, name="first")(inputs), layers.Dense(2, name="second")(inputs)]
    return compiled(
        keras.Model(inputs, outputs),
        [keras.losses.Huber(delta=0.3), keras.losses.CosineSimilarity(axis=0)],
        metrics=[[], [keras.metrics.CosineSimilarity(axis=0)]],
    )


@case(lambda: Data(numbers(3)))
def no_loss_but_added_ones() -> keras.Model:
    inputs = keras.Input((3,))
    hidden = layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.1))(inputs)
    model = keras.Model(inputs, hidden)
    model.compile("sgd", jit_compile=False)
    return model


@case(regression(3))
def loss_scaled_by_hand() -> keras.Model:
    loss = keras.losses.MeanSquaredError(reduction="sum", dtype="float64")
    return compiled(_dense(), loss, loss_weights=0.5)


@case(lambda: Data(numbers(3), [numbers(2, seed=1), numbers(1, seed=2)]))
def one_output_without_loss() -> keras.Model:
    inputs = keras.Input((3,))
    outputs = [layers.Dense(2, name="used")(inputs), layers.Dense(1, name="unused")(inputs)]
    return compiled(keras.Model(inputs, outputs), ["mse", None], keras.optimizers.SGD(0.1))
