"""Texts inside an artifact, parsed so that a small one cannot become a large thing."""

import json
from typing import Any

import yaml

from exporter.errors import ArtifactError

# A model of a hundred layers inside each other is none; Python's own limit of recursion is twice as high.
MAX_DEPTH = 500
_MAX_RECIPE = 1 << 20


def parse_json(text: str | bytes, place: str) -> Any:
    """Parses JSON.

    Args:
        text: It.
        place: What it is, for the error.

    Returns:
        The value.

    Raises:
        ArtifactError: It is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ArtifactError(f"{place} is refused: it is nested too deeply.") from None
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{place} is damaged: it is no JSON: {error}.") from error


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
