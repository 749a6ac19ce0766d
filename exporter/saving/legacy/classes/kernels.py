"""A layer with a kernel and a bias of the kinds that its configuration names."""

from typing import Any

import keras

from exporter.typing.structures import Config

Shape = tuple[int | None, ...]


class KernelLayer(keras.layers.Layer):
    """Such a layer.

    Args:
        use_bias: Whether there is a bias.
        arguments: Initializers, regularizers and constraints as `keras.layers.Dense` takes them, and what every layer
            takes.
    """

    def __init__(
        self,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **arguments)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }

    def add_kernel(self, shape: Shape) -> Any:
        """Makes the kernel."""
        return self.add_weight(
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )

    def add_bias(self, shape: Shape) -> Any:
        """Makes the bias; None where there is none."""
        if not self.use_bias:
            return None
        return self.add_weight(
            shape=shape,
            initializer=self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            name="bias",
        )
