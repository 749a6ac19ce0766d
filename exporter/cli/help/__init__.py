"""What `exporter --help` and `exporter help` print: pages that ship as Markdown, with lists of what there is.

A list is derived from what it describes; the file of a page holds it as well, for its readers elsewhere.
Importing this imports neither Hydra nor TensorFlow.
"""

from collections.abc import Callable
from importlib import import_module
from typing import cast

Rows = list[tuple[str, str]]

# By name, the module below this one with `list_rows() -> Rows`.
LISTS = {
    "exit-codes": "exit_codes",
    "formats": "formats",
    "keys": "keys",
    "recipes": "recipes",
    "transforms": "transforms",
}


def list_rows(name: str) -> Rows:
    """Gives the lines of a list: what is described, and the description.

    Args:
        name: One of `LISTS`.
    """
    module = import_module(f"{__name__}.{LISTS[name]}")
    return cast(Callable[[], Rows], module.list_rows)()
