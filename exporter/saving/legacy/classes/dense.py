"""Layers of Keras 1 and 2 that multiply by a matrix."""

import math
from typing import Any

import keras

from exporter.saving.legacy.classes.kernels import KernelLayer, Shape
from exporter.typing.structures import Config


@keras.saving.register_keras_serializable("exporter")
class MaxoutDense(KernelLayer):
    """The greatest of what several `Dense` layers give, as in Keras 1.

    Args:
        units: The size of the output.
        nb_feature: How many there are.
        arguments: What `keras.layers.Dense` takes, but for an activation.
    """

    def __init__(self, units: int, nb_feature: int = 4, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.units, self.nb_feature = units, nb_feature

    def build(self, input_shape: Shape) -> None:
        """Makes the weights."""
        self.kernel = self.add_kernel((self.nb_feature, input_shape[-1], self.units))
        self.bias = self.add_bias((self.nb_feature, self.units))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        outputs = keras.ops.einsum("bi,nio->bno", inputs, self.kernel)
        return keras.ops.max(outputs if self.bias is None else outputs + self.bias, axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Tells the shape of the output."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units, "nb_feature": self.nb_feature}


@keras.saving.register_keras_serializable("exporter")
class Highway(KernelLayer):
    """A `Dense` layer between whose output and input a gate chooses, as in Keras 1.

    Args:
        activation: Of the `Dense` layer.
        arguments: What `keras.layers.Dense` takes, but for `units`.
    """

    def __init__(self, activation: Any = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights."""
        size = input_shape[-1]
        self.kernel = self.add_kernel((size, size))
        self.gate_kernel = self.add_weight((size, size), initializer=self.kernel_initializer, name="gate_kernel")
        self.bias = self.add_bias((size,))
        self.gate_bias = self.add_weight((size,), initializer="ones", name="gate_bias") if self.use_bias else None
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        gate, outputs = keras.ops.matmul(inputs, self.gate_kernel), keras.ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            gate, outputs = gate + self.gate_bias, outputs + self.bias
        gate = keras.ops.sigmoid(gate)
        return self.activation(outputs) * gate + (1 - gate) * inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Tells the shape of the output."""
        return input_shape

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "activation": keras.activations.serialize(self.activation)}


@keras.saving.register_keras_serializable("exporter")
class RandomFourierFeatures(keras.layers.Layer):
    """Random features whose products approximate a kernel, as in `tf.keras.layers.experimental` of 2.1 to 2.15.

    Args:
        output_dim: How many.
        kernel_initializer: `gaussian`, `laplacian`, or an initializer.
        scale: Of the kernel; None for the usual one of the two that have a name.
        trainable: Whether the scale is trained.
        arguments: What every layer takes.
    """

    def __init__(
        self,
        output_dim: int,
        kernel_initializer: Any = "gaussian",
        scale: float | None = None,
        trainable: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(trainable=trainable, **arguments)
        self.output_dim, self.kernel_initializer, self.scale = output_dim, kernel_initializer, scale

    def build(self, input_shape: Shape) -> None:
        """Makes the weights."""
        inside = int(input_shape[-1] or 0)
        name = str(self.kernel_initializer).lower()
        initializer = self.kernel_initializer
        if name == "gaussian":
            initializer = keras.initializers.RandomNormal(stddev=1.0)
        elif name == "laplacian":
            initializer = _draw_cauchy
        scale = self.scale or (math.sqrt(inside / 2) if name == "gaussian" else 1.0)
        shape = (inside, self.output_dim)
        self.unscaled_kernel = self.add_weight(shape, initializer, trainable=False, name="unscaled_kernel")
        angles = keras.initializers.RandomUniform(0.0, 2 * math.pi)
        self.bias = self.add_weight((self.output_dim,), angles, trainable=False, name="bias")
        constant = keras.initializers.Constant(scale)
        self.kernel_scale = self.add_weight((1,), constant, constraint="NonNeg", name="kernel_scale")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        kernel = (1.0 / self.kernel_scale) * self.unscaled_kernel
        return keras.ops.cos(keras.ops.matmul(keras.ops.cast(inputs, kernel.dtype), kernel) + self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Tells the shape of the output."""
        return (*input_shape[:-1], self.output_dim)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        initializer = self.kernel_initializer
        named = isinstance(initializer, (str, dict))
        written = initializer if named else keras.initializers.serialize(initializer)
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "kernel_initializer": written,
            "scale": self.scale,
        }


def _draw_cauchy(shape: Any, dtype: Any = None) -> Any:
    return keras.ops.tan(math.pi * (keras.random.uniform(shape, dtype=dtype) - 0.5))
