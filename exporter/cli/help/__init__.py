"""The pages of `exporter --help` and `exporter help TOPIC`, derived from what they describe.

Importing this imports neither Hydra nor TensorFlow.
"""

from collections.abc import Callable
from importlib import import_module
from typing import cast

Rows = list[tuple[str, str]]

# By name: what the topic is, and its module below this one, with `list_rows() -> Rows`.
TOPICS = {
    "keys": ("everything that KEY=VALUE can set, and the options of groups", "keys"),
    "formats": ("what save_format can be, and who opens it", "formats"),
    "exit-codes": ("what the number means with which the command ends", "exit_codes"),
}


def list_rows(topic: str) -> Rows:
    """Gives the lines of a topic: what is described, and the description.

    Args:
        topic: One of `TOPICS`.
    """
    module = import_module(f"{__name__}.{TOPICS[topic][1]}")
    return cast(Callable[[], Rows], module.list_rows)()
