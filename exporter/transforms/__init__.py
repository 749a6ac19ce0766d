"""Small TensorFlow functions that run before and after a model, inside the graph of its endpoints.

Each takes a tensor first, or a mapping of tensors where there are several, and then keyword arguments from the recipe:
`{_target_: exporter.transforms.resize, height: 32, width: 32}`. Any function of the same form can be named as well.
"""

from exporter.transforms._hooks import takes
from exporter.transforms.images import (
    channels_first,
    channels_last,
    decode_images,
    normalize,
    rescale,
    resize,
    reverse_channels,
)
from exporter.transforms.outputs import rename, sigmoid, softmax, take_label, threshold, top_k
from exporter.transforms.records import cast, decode_base64, parse_examples
from exporter.transforms.texts import tokenize

__all__ = [
    "cast",
    "channels_first",
    "channels_last",
    "decode_base64",
    "decode_images",
    "normalize",
    "parse_examples",
    "rename",
    "rescale",
    "resize",
    "reverse_channels",
    "sigmoid",
    "softmax",
    "take_label",
    "takes",
    "threshold",
    "tokenize",
    "top_k",
]
