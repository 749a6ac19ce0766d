"""What a recipe takes from the environment: the value is used, and what the recipe says stands in its place.

`${oc.env:NAME}` is how a recipe refers to a password, a token or somebody's directory. What is stored or shown
afterwards, be it inside an artifact, in a receipt, in a log or in an error, says `${oc.env:NAME}` as well.
"""

import json
import os
import re
from collections.abc import Mapping

from exporter.text.printable import escape

_NAME = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)")

# A shorter value, such as `1` or `tf`, is a part of other words, and no secret.
_SHORTEST = 4

# What is written instead, by value.
_hidden: dict[str, str] = {}


def hide_variable(name: str) -> None:
    """Lets the value of a variable of the environment be hidden in every text from now on.

    Args:
        name: Of the variable, which need not be there.
    """
    _hide(os.environ.get(name), f"${{oc.env:{name}}}")


def hide_values(value: object, written: str) -> None:
    """Lets every text in a value of a recipe be hidden in every text from now on.

    Args:
        value: Plain data.
        written: How the recipe says it, such as `${oc.decode:${oc.env:NAME}}`.
    """
    for name in _NAME.findall(written):
        hide_variable(name)
    if isinstance(value, Mapping):
        for entry in value.values():
            hide_values(entry, written)
    elif isinstance(value, list | tuple):
        for entry in value:
            hide_values(entry, written)
    else:
        _hide(value, written)


def _hide(value: object, written: str) -> None:
    if not isinstance(value, str) or len(value) < _SHORTEST or value in _hidden:
        return
    # As it is, as Python and JSON quote it, and as it is shown on one line.
    quoted = (repr(value)[1:-1], json.dumps(value)[1:-1], value.encode("unicode_escape").decode())
    forms = (value, escape(value), *quoted)
    _hidden.update(dict.fromkeys(forms, written))


def hide(text: str) -> str:
    """Returns a text in which what the environment gave is written as the recipe says it."""
    for value in sorted(_hidden, key=len, reverse=True):  # one may hold another
        if value in text:
            text = text.replace(value, _hidden[value])
    return text
