"""Convolutions that share no kernel between places (`LocallyConnected1D` and `2D` of Keras 1 to 2.15)."""

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from exporter.saving.legacy.classes.kernels import KernelLayer, Shape
from exporter.typing.structures import Config


class _LocallyConnected(KernelLayer):
    """A convolution with a kernel of its own for each place.

    Args:
        filters: The channels of the output.
        kernel_size: Of the window, in places.
        strides: Between two windows.
        padding: `valid`, or `same` where `implementation` is 2 or 3.
        data_format: Where the channels are; None for Keras's setting.
        activation: Of the output.
        implementation: How the kernel is stored: 1, by place; 2, from each place to each place; 3, what is used of 2.
        arguments: See `KernelLayer`; there is a bias for each place.
    """

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        implementation: int = 1,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.filters, self.padding, self.implementation = filters, padding, implementation
        self.kernel_size, self.strides = _to_tuple(kernel_size, self.rank), _to_tuple(strides, self.rank)
        self.data_format = data_format or keras.config.image_data_format()
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights."""
        self._places, self._channels = self._split(input_shape)
        self._made = self._count_places(self._places)
        inside, outside = math.prod(self._places), math.prod(self._made)
        shape: tuple[int, ...]
        if self.implementation == 1:
            shape = (outside, math.prod(self.kernel_size) * self._channels, self.filters)
        elif self.implementation == 2:
            shape = (*self._join(self._places, self._channels), *self._join(self._made, self.filters))
        elif self.implementation == 3:
            shape = (len(self._connections),)
        else:
            raise ValueError(f"{self.name} has implementation={self.implementation!r}; expected 1, 2 or 3.")
        if not inside or not outside:
            raise ValueError(f"The inputs of {self.name} are smaller than its window: {input_shape}.")
        self.kernel = self.add_kernel(shape)
        self.bias = self.add_bias((*self._made, self.filters))
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        outputs = self._multiply_windows(inputs) if self.implementation == 1 else self._multiply_matrix(inputs)
        if self.bias is not None:
            shape = (*self._made, self.filters)
            # Older Keras did not transpose it.
            shape = (self.filters, *self._made) if self.data_format == "channels_first" else shape
            outputs = outputs + keras.ops.reshape(self.bias, shape)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Tells the shape of the output."""
        return (input_shape[0], *self._join(self._count_places(self._split(input_shape)[0]), self.filters))

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        keys = ("filters", "kernel_size", "strides", "padding", "data_format", "implementation")
        return {
            **super().get_config(),
            **{key: getattr(self, key) for key in keys},
            "activation": keras.activations.serialize(self.activation),
        }

    def _split(self, shape: Shape) -> tuple[tuple[int, ...], int]:
        """Tells the places and the channels of an input."""
        inside = shape[1:]
        if len(inside) != self.rank + 1 or any(size is None for size in inside):
            raise ValueError(f"{self.name} has to know all sizes of its inputs. Received the shape {shape}.")
        sizes = [int(size) for size in inside if size is not None]
        return (tuple(sizes[1:]), sizes[0]) if self.data_format == "channels_first" else (tuple(sizes[:-1]), sizes[-1])

    def _join(self, places: tuple[int, ...], channels: int) -> tuple[int, ...]:
        return (channels, *places) if self.data_format == "channels_first" else (*places, channels)

    def _count_places(self, places: tuple[int, ...]) -> tuple[int, ...]:
        taken = [size - 1 if self.padding == "valid" else 0 for size in self.kernel_size]
        return tuple(
            max(0, -(-(size - less) // step)) for size, less, step in zip(places, taken, self.strides, strict=True)
        )

    def _list_windows(self) -> list[list[int]]:
        """Lists the places that each place of the output is computed from, all by their numbers."""
        windows = []
        for made in itertools.product(*map(range, self._made)):
            ranges = []
            for place, size, window, step in zip(made, self._places, self.kernel_size, self.strides, strict=True):
                first = place * step - (window // 2 if self.padding == "same" else 0)
                ranges.append(range(max(0, first), min(size, first + window)))
            indices = np.array(list(itertools.product(*ranges)), np.int64).reshape(-1, self.rank)
            windows.append([int(np.ravel_multi_index(index, self._places)) for index in indices])
        return windows

    @cached_property
    def _connections(self) -> NDArray[np.int64]:
        """What is connected, `[output, input]` in the order of the stored kernel; both count places and channels."""
        inside = np.arange(math.prod(self._places) * self._channels).reshape(self._join(self._places, self._channels))
        outside = np.arange(math.prod(self._made) * self.filters).reshape(self._join(self._made, self.filters))
        axis = 0 if self.data_format == "channels_first" else -1
        inside, outside = (np.moveaxis(each, axis, -1).reshape(-1, each.shape[axis]) for each in (inside, outside))
        pairs = [
            np.stack(np.meshgrid(outside[made], inside[window].ravel(), indexing="ij"), -1).reshape(-1, 2)
            for made, window in enumerate(self._list_windows())
        ]
        joined = np.concatenate(pairs)
        return joined[np.lexsort((joined[:, 1], joined[:, 0]))]

    def _multiply_windows(self, inputs: Any) -> Any:
        is_first = self.data_format == "channels_first"
        count = math.prod(self._places)
        shape = (-1, self._channels, count) if is_first else (-1, count, self._channels)
        windows = keras.ops.take(keras.ops.reshape(inputs, shape), np.array(self._list_windows()), axis=1 + is_first)
        windows = keras.ops.transpose(windows, (0, 2, 1, 3)) if is_first else windows
        windows = keras.ops.reshape(windows, (-1, math.prod(self._made), self.kernel.shape[1]))
        outputs = keras.ops.einsum("bpf,pfo->bpo", windows, self.kernel)
        outputs = keras.ops.transpose(outputs, (0, 2, 1)) if is_first else outputs
        return keras.ops.reshape(outputs, (-1, *self._join(self._made, self.filters)))

    def _multiply_matrix(self, inputs: Any) -> Any:
        inside, outside = math.prod(self._places) * self._channels, math.prod(self._made) * self.filters
        matrix = keras.ops.convert_to_tensor(self.kernel)
        if self.implementation == 2:
            used = np.zeros((inside, outside), bool)
            used[self._connections[:, 1], self._connections[:, 0]] = True
            matrix = keras.ops.reshape(matrix, (inside, outside)) * keras.ops.cast(used, matrix.dtype)
        else:
            matrix = keras.ops.scatter(self._connections[:, ::-1], matrix, (inside, outside))
        outputs = keras.ops.matmul(keras.ops.reshape(inputs, (-1, inside)), matrix)
        return keras.ops.reshape(outputs, (-1, *self._join(self._made, self.filters)))


@keras.saving.register_keras_serializable("exporter")
class LocallyConnected1D(_LocallyConnected):
    """One that runs over a sequence; see `keras.layers.LocallyConnected1D` of Keras 2."""

    rank = 1


@keras.saving.register_keras_serializable("exporter")
class LocallyConnected2D(_LocallyConnected):
    """One that runs over an image; see `keras.layers.LocallyConnected2D` of Keras 2."""

    rank = 2


def _to_tuple(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)
