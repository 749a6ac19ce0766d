"""What the inputs of a model may be, so that they reach what it keeps: words of tables, ids inside embeddings."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import keras

from exporter.saving.graph.inputs import to_argument_name
from exporter.saving.private_api import LookupInterface
from exporter.saving.state.resources import Table, find_leaves
from exporter.saving.state.tree import is_saveable
from exporter.typing.keras import Layer, Model

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog")
_UNKNOWN_WORD = "unheard-of"
_INTEGER_LIMIT = 10
# How many entries of one vocabulary or table are asked for.
_ENTRIES = 10

_STRING_LOOKUPS = (keras.layers.StringLookup, keras.layers.TextVectorization)


@dataclass(frozen=True, slots=True)
class Range:
    """What an input may be.

    Attributes:
        integers: Those that it may take.
        words: Likewise; some are known to the model, and one is not.
    """

    integers: Sequence[int]
    words: Sequence[str]


def find_ranges(model: Model) -> Callable[[str], Range]:
    """Finds what the inputs of a model may be.

    Args:
        model: A built model.

    Returns:
        A function of an input's name. Where a layer that takes the input directly says what it may be, that counts;
        else what all layers say: integers lie below the smallest limit of an embedding or an encoding.
    """
    takers: dict[str, list[Layer]] = defaultdict(list)
    for layer in model._flatten_layers(include_self=False, recursive=False):
        for node in getattr(layer, "_inbound_nodes", ()):
            for tensor in node.input_tensors:
                source = tensor._keras_history.operation
                if isinstance(source, keras.layers.InputLayer):
                    takers[to_argument_name(source.name)] += layer._flatten_layers()
    known = {name: _find_range(layers) for name, layers in takers.items()}
    every = _find_range(model._flatten_layers())
    fallback = every or Range(range(_INTEGER_LIMIT), (*_WORDS, _UNKNOWN_WORD))
    return lambda name: known.get(name) or fallback


def _find_range(layers: Sequence[Layer]) -> Range | None:
    """Finds what layers say of their inputs; None if they say nothing."""
    limits: list[int] = []
    integers: list[int] = []
    words: list[str] = []
    for layer in layers:
        if isinstance(layer, keras.layers.Embedding):
            limits.append(layer.input_dim)
        elif isinstance(layer, keras.layers.CategoryEncoding) and layer.num_tokens:
            limits.append(layer.num_tokens)
        elif isinstance(layer, _STRING_LOOKUPS):
            words += map(str, layer.get_vocabulary(include_special_tokens=False)[:_ENTRIES])
        elif isinstance(layer, keras.layers.IntegerLookup):
            integers += map(int, layer.get_vocabulary(include_special_tokens=False)[:_ENTRIES])
        for _, leaf in find_leaves(layer, is_saveable):
            if isinstance(leaf, LookupInterface):
                keys = Table.of(leaf).export()[0].reshape(-1)[:_ENTRIES].tolist()
                integers += [key for key in keys if isinstance(key, int)]
                words += _decode(keys)
    if not (limits or integers or words):
        return None
    limit = min(limits, default=None)
    # What a table knows may lie beyond an embedding that another input goes to.
    inside = [number for number in integers if limit is None or 0 <= number < limit]
    below = range(_INTEGER_LIMIT if limit is None else limit)
    return Range([*inside, *below] if inside else below, (*(words or _WORDS), _UNKNOWN_WORD))


def _decode(keys: Sequence[object]) -> list[str]:
    words = []
    for key in keys:
        if isinstance(key, bytes):
            with suppress(UnicodeDecodeError):
                words.append(key.decode())
    return words
