"""Dtype policies, quantization and wrappers around kernels."""

import keras
from keras import layers

from .case import Data, case, classes, compiled, numbers, regression


def _model(policy: str) -> keras.Model:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(5, "relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.2),
                layers.Dense(2, dtype="float32" if policy.startswith("mixed") else None),
            ]
        )
    finally:
        keras.config.set_dtype_policy(previous)


@case(regression(6))
def mixed_float16() -> keras.Model:
    return compiled(_model("mixed_float16"))


@case(regression(6))
def mixed_float16_without_loss_scale() -> keras.Model:
    return compiled(_model("mixed_float16"), auto_scale_loss=False)


@case(regression(6))
def mixed_bfloat16() -> keras.Model:
    return compiled(_model("mixed_bfloat16"))


@case(regression(6))
def bfloat16() -> keras.Model:
    return compiled(_model("bfloat16"))


@case(regression(6))
def float16() -> keras.Model:
    return compiled(_model("float16"), optimizer=keras.optimizers.SGD(0.01, momentum=0.9))


@case(regression(6))
def float64() -> keras.Model:
    return compiled(_model("float64"))


def _quantized(mode: str) -> keras.Model:
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(9, 4)(inputs)
    hidden = layers.EinsumDense("abc,cd->abd", (4, 6), bias_axes="d", activation="relu")(hidden)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))
    model.quantize(mode)
    return model


def _tokens() -> Data:
    return Data(classes(9, 4), numbers(2, seed=1))


@case(_tokens)
def quantized_to_int8() -> keras.Model:
    return compiled(_quantized("int8"))


@case(_tokens)
def quantized_to_int4() -> keras.Model:
    return compiled(_quantized("int4"))


@case(regression(16, outputs=16), in_graphs=True)
def quantized_to_float8() -> keras.Model:
    model = keras.Sequential([keras.Input((16,)), layers.Dense(16, "relu"), layers.Dense(16)])
    model.quantize("float8")
    return compiled(model)


@case(_tokens)
def quantized_with_low_rank_adaptation() -> keras.Model:
    model = _quantized("int8")
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2)
    return compiled(model)


@case(regression(6))
def low_rank_adaptation() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(2)])
    model.layers[0].enable_lora(2)
    return compiled(model)


@case(regression(4, 4, 2))
def spectral_normalization() -> keras.Model:
    return compiled(
        keras.Sequential(
            [
                keras.Input((4, 4, 2)),
                layers.SpectralNormalization(layers.Conv2D(3, 2), power_iterations=2),
                layers.Flatten(),
                layers.SpectralNormalization(layers.Dense(2)),
            ]
        )
    )
