"""Pictures: from the bytes of a file to the numbers that a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from exporter.transforms._hooks import takes

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

_METHODS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic")


def _make_pictures(
    generator: np.random.Generator,
    count: int,
    make_next: Callable[[], Any] | None,
    *,
    height: int,
    width: int,
    channels: int = 3,
    **_: Any,
) -> Any:
    """Encodes pictures of rectangles and noise, as JPEG and PNG in turn."""
    import numpy as np
    import tensorflow as tf

    pictures = np.empty(count, object)
    for index in range(count):
        picture = generator.integers(0, 256, (height, width, channels), np.uint8)
        top, left = generator.integers(0, height), generator.integers(0, width)
        picture[top:, left:] = generator.integers(0, 256, channels)
        encode = tf.io.encode_png if index % 2 or channels not in (1, 3) else tf.io.encode_jpeg
        pictures[index] = encode(picture).numpy()
    return pictures


@takes("image_bytes", "string", examples=_make_pictures)
def decode_images(
    images: tf.Tensor, *, height: int, width: int, channels: int = 3, method: str = "bilinear", antialias: bool = False
) -> tf.Tensor:
    """Decodes the bytes of JPEG and PNG files.

    JPEG is decoded with the accurate integer transform of libjpeg, as Pillow does, and not with TensorFlow's fast one,
    whose values differ by a few levels. The orientation that a camera notes in the file is not applied.

    Args:
        images: The content of files, string `[batch]`.
        height: Of the result, in pixels. A picture of another size is resized, which changes its proportions.
        width: Of the result, in pixels.
        channels: 1 for grey, 3 for RGB, 4 for RGBA (PNG only); a file with others is converted.
        method: See `resize`.
        antialias: See `resize`.

    Returns:
        float32 `[batch, height, width, channels]` from 0 to 255.
    """
    import tensorflow as tf

    _check_size(height=height, width=width)

    def decode(image: Any) -> Any:
        pixels = tf.io.decode_jpeg(image, channels=channels, dct_method="INTEGER_ACCURATE")
        resized = resize(pixels[tf.newaxis], height=height, width=width, method=method, antialias=antialias)
        return tf.ensure_shape(resized[0], [height, width, channels])

    return tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([height, width, channels], tf.float32))


@takes()
def resize(
    images: tf.Tensor, *, height: int, width: int, method: str = "bilinear", antialias: bool = False
) -> tf.Tensor:
    """Resizes pictures, as `tf.image.resize` and `keras.layers.Resizing` do.

    Args:
        images: Numbers `[batch, any height, any width, channels]`.
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        method: bilinear, nearest, bicubic, area, lanczos3, lanczos5, gaussian or mitchellcubic.
        antialias: Whether a picture is smoothed before it becomes smaller.

    Returns:
        float32 `[batch, height, width, channels]`.
    """
    import tensorflow as tf

    from exporter.errors import ArgumentError

    _check_size(height=height, width=width)
    if method not in _METHODS:
        raise ArgumentError(f"`method` is {method!r}. Allowed: {', '.join(_METHODS)}.")
    resized = tf.image.resize(tf.cast(images, tf.float32), [height, width], method=method, antialias=antialias)
    return tf.cast(resized, tf.float32)


@takes()
def rescale(images: tf.Tensor, *, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0) -> tf.Tensor:
    """Computes `images * scale + offset`, as `keras.layers.Rescaling` does.

    Args:
        images: Numbers of any shape.
        scale: One number, or one for each entry of the last dimension.
        offset: Likewise.

    Returns:
        float32, or the dtype of `images` where that is a float already.
    """
    import tensorflow as tf

    images = _make_float(images)
    return images * tf.constant(scale, images.dtype) + tf.constant(offset, images.dtype)


@takes()
def normalize(images: tf.Tensor, *, mean: float | Sequence[float], std: float | Sequence[float]) -> tf.Tensor:
    """Computes `(images - mean) / std`.

    Args:
        images: Numbers of any shape.
        mean: One number, or one for each entry of the last dimension.
        std: Likewise: the standard deviation, not the variance that `keras.layers.Normalization` takes.

    Returns:
        float32, or the dtype of `images` where that is a float already.
    """
    import tensorflow as tf

    images = _make_float(images)
    return (images - tf.constant(mean, images.dtype)) / tf.constant(std, images.dtype)


@takes()
def reverse_channels(images: tf.Tensor) -> tf.Tensor:
    """Reverses the last dimension: RGB to BGR, and back.

    Args:
        images: Numbers `[..., channels]`.

    Returns:
        The same shape and dtype.
    """
    import tensorflow as tf

    return tf.reverse(images, axis=[-1])


@takes()
def channels_first(images: tf.Tensor) -> tf.Tensor:
    """Moves the channels before the height and the width.

    Args:
        images: Numbers `[batch, height, width, channels]`.

    Returns:
        `[batch, channels, height, width]`.
    """
    import tensorflow as tf

    return tf.transpose(images, [0, 3, 1, 2])


@takes()
def channels_last(images: tf.Tensor) -> tf.Tensor:
    """Moves the channels behind the height and the width.

    Args:
        images: Numbers `[batch, channels, height, width]`.

    Returns:
        `[batch, height, width, channels]`.
    """
    import tensorflow as tf

    return tf.transpose(images, [0, 2, 3, 1])


def _make_float(values: Any) -> Any:
    import tensorflow as tf

    return values if values.dtype.is_floating else tf.cast(values, tf.float32)


def _check_size(**sizes: int) -> None:
    from exporter.errors import ArgumentError

    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(f"`{name}` is {size}. Expected a number of pixels from 1.")
