"""Random crops as Keras 2 made them: what is not trained on is resized, keeping its proportions."""

from typing import Any

import keras

from exporter.typing.structures import Config

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("exporter")
class RandomCrop(keras.layers.Layer):
    """Crops what it trains on at random, and resizes all else, as in Keras 2.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        seed: Of the random places.
        arguments: What every layer takes.
    """

    def __init__(self, height: int, width: int, seed: int | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.height, self.width, self.seed = height, width, seed
        self._crop = keras.layers.RandomCrop(height, width, seed=seed, data_format="channels_last")
        self._resize = keras.layers.Resizing(height, width, crop_to_aspect_ratio=True, data_format="channels_last")

    def build(self, input_shape: Shape) -> None:
        """Makes the weights."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Computes the output."""
        height, width = inputs.shape[-3:-1]
        is_larger = height is not None and width is not None and height >= self.height and width >= self.width
        outputs = self._crop(inputs, training=True) if training and is_larger else self._resize(inputs)
        return keras.ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Tells the shape of the output."""
        return (*input_shape[:-3], self.height, self.width, input_shape[-1])

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "height": self.height, "width": self.width, "seed": self.seed}
