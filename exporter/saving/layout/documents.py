"""Texts inside an artifact, parsed so that a small one cannot become a large thing."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from exporter.errors import ArtifactError

# A model of a hundred layers inside each other is none; Python's own limit of recursion is twice as high.
MAX_DEPTH = 500
# A vocabulary of a million words takes a fourth of it, and a second to parse at most.
MAX_JSON = 1 << 26
# Lists and mappings; a model of 5,000 layers has 50,000 of them.
_MAX_NODES = 1_000_000
_MAX_RECIPE = 1 << 20

# Halves of characters, as JSON may write them; two that fit are one character.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: Any, place: str) -> Any:
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
        value = json.loads(decoded, object_pairs_hook=_take_each_key_once)
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


def _take_each_key_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two values they take: what one checks is not what another uses.
    taken = dict(pairs)
    if len(taken) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twice[:80]!r} twice")
    return taken


class _Loader(yaml.SafeLoader):
    """Plain data, without aliases: a few lines of those stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no recipe of ours has")
        return super().compose_node(parent, index)


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
    if len(text) > _MAX_RECIPE:
        raise ArtifactError(f"{place} is refused: it has {len(text):,} bytes; at most {_MAX_RECIPE:,} are read.")
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ArtifactError(f"{place} is refused: it is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ArtifactError(f"{place} is damaged: {error}.") from error
