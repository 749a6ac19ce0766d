"""Texts inside an artifact, parsed so that a small one cannot become a large thing."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from exporter.errors import ArtifactError
from exporter.typing.structures import JSON, Config

# A model of a hundred layers inside each other is none; Python's own limit of recursion is twice as high.
MAX_DEPTH = 500
# A vocabulary of a million words takes a fourth of it, and a second to parse at most.
MAX_JSON = 1 << 26
# Lists and mappings; a model of 5,000 layers has 50,000 of them.
_MAX_NODES = 1_000_000
_MAX_YAML = 1 << 20

# Halves of characters, as JSON may write them; two that fit are one character.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: object, place: str) -> JSON:
    """Parses JSON.

    Args:
        text: It; anything but `str` and `bytes` is refused.
        place: What it is, for the error.

    Returns:
        The value.

    Raises:
        ArtifactError: It is no JSON, has a key twice or a text that is no Unicode, is too long, or nested too deeply.
    """
    if not isinstance(text, (str, bytes)):
        raise ArtifactError(f"{place} is damaged: expected a text, received {type(text).__name__}.")
    check_length(len(text), place)
    try:
        decoded = text.decode(json.detect_encoding(text)) if isinstance(text, bytes) else text
        nodes = decoded.count("[") + decoded.count("{")
        if nodes > _MAX_NODES:
            raise ArtifactError(f"{place} is refused: it has {nodes:,} brackets; at most {_MAX_NODES:,} are read.")
        value: JSON = json.loads(decoded, object_pairs_hook=_take_each_key_once)
        if _SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ArtifactError(f"{place} is refused: it is nested too deeply.") from None
    except UnicodeError:
        raise ArtifactError(f"{place} is damaged: it is no JSON: it has a text that is no Unicode.") from None
    except ArtifactError:
        raise
    except ValueError as error:
        raise ArtifactError(f"{place} is damaged: it is no JSON: {error}.") from error
    return value


def check_length(count: int, place: str) -> None:
    """Refuses JSON of so many bytes that parsing it takes long, before it is read.

    Args:
        count: Of its bytes.
        place: What it is, for the error.

    Raises:
        ArtifactError: It is too long.
    """
    if count > MAX_JSON:
        raise ArtifactError(f"{place} is refused: it has {count:,} bytes; at most {MAX_JSON:,} are read.")


def _take_each_key_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    # Readers differ in which of two values they take: what one checks is not what another uses.
    taken = dict(pairs)
    if len(taken) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twice[:80]!r} twice")
    return taken


def list_mappings(document: object) -> Iterator[Config]:
    """Lists the mappings of a document in its order, each before those inside of it.

    Args:
        document: What JSON can say; it may be nested deeper than Python's limit of recursion.
    """
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += reversed(list(node.values()))
        elif isinstance(node, list):
            waiting += reversed(node)


class _Loader(yaml.SafeLoader):
    """Plain data, without aliases: a few lines of those stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no recipe of ours has")
        return super().compose_node(parent, index)


class _ConfigurationLoader(yaml.SafeLoader):
    """Plain data with aliases, each of which counts for all that it stands for."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._count = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before, self._count = self._count, self._count + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._sizes:
                raise yaml.YAMLError(f"the alias {str(event.anchor)[:80]!r} stands for nothing before it")
            self._count += self._sizes[event.anchor]
        if self._count > _MAX_NODES:
            raise yaml.YAMLError(f"it stands for more than {_MAX_NODES:,} values")
        node = super().compose_node(parent, index)
        if getattr(event, "anchor", None) is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[event.anchor] = self._count - before
        return node


_Construct = Callable[[_ConfigurationLoader, Any], Any]


def _construct_dtype(loader: _ConfigurationLoader, node: Any) -> Any:
    """Gives the name of a dtype: PyYAML wrote its arguments, and behind them its state, which says the byte order."""
    return loader.construct_mapping(node, deep=True)["args"][0]


def _construct_scalar(loader: _ConfigurationLoader, node: Any) -> Any:
    """Gives a number of NumPy: PyYAML wrote its dtype and its bytes."""
    dtype, content = loader.construct_sequence(node, deep=True)
    if not (isinstance(dtype, str) and _NUMBERS.fullmatch(dtype) and isinstance(content, bytes)):
        raise yaml.YAMLError("it has a number that is none")
    [number] = np.frombuffer(content, f"<{dtype}").tolist()
    return number


# What Keras's `to_yaml` let PyYAML write of its configurations, each as plain data.
_NUMBERS = re.compile(r"[iuf][1248]")
_CONSTRUCTED: Mapping[str, _Construct] = {
    "tuple": lambda loader, node: loader.construct_sequence(node),
    "unicode": lambda loader, node: loader.construct_scalar(node),
    "object/apply:numpy.dtype": _construct_dtype,
    "object/apply:numpy.core.multiarray.scalar": _construct_scalar,
}
for _name, _construct in _CONSTRUCTED.items():
    _ConfigurationLoader.add_constructor(f"tag:yaml.org,2002:python/{_name}", _construct)
# `to_yaml` sorts its keys, so that one of these is the first of a model.
_CONFIGURATION = re.compile(rb"(?:#[^\n]*\n|---[^\n]*\n|\s)*(?:backend|class_name)\s*:")


def is_yaml_configuration(head: bytes) -> bool:
    """Tells whether a file begins as `model.to_yaml()` of Keras 1 and 2 wrote it."""
    return _CONFIGURATION.match(head) is not None


def parse_yaml_configuration(text: bytes, place: str) -> JSON:
    """Parses what `model.to_yaml()` wrote: plain data, and Python's tuples as lists.

    Args:
        text: It.
        place: What it is, for the error.

    Returns:
        The value, as JSON says it.

    Raises:
        ArtifactError: It is no YAML, asks for other Python objects, or is or stands for too much.
    """
    value = _parse_yaml(text, place, _ConfigurationLoader)
    try:
        # Every alias becomes a value of its own, so that a translation changes one place.
        copied: JSON = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{place} is damaged: it holds what no configuration does: {error}.") from error
    return copied


def parse_recipe(text: str | bytes, place: str) -> Any:
    """Parses the YAML of a recipe as plain data.

    Args:
        text: It.
        place: What it is, for the error.

    Returns:
        The value.

    Raises:
        ArtifactError: It is no YAML, asks for Python objects, has aliases, or is too long or nested too deeply.
    """
    return _parse_yaml(text, place, _Loader)


def _parse_yaml(text: str | bytes, place: str, loader: type[yaml.SafeLoader]) -> Any:
    if len(text) > _MAX_YAML:
        raise ArtifactError(f"{place} is refused: it has {len(text):,} bytes; at most {_MAX_YAML:,} are read.")
    try:
        return yaml.load(text, loader)
    except RecursionError:
        raise ArtifactError(f"{place} is refused: it is nested too deeply.") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{place} is damaged: {error}.") from error
