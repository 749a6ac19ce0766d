"""The recipes that come with the package, and what a file of YAML says of itself."""

import re

from exporter.config.directories import RECIPES_DIRECTORY


def list_rows() -> list[tuple[str, str]]:
    """Gives each recipe with its purpose."""
    files = sorted(RECIPES_DIRECTORY.glob("*.yaml"))
    return [(file.stem, read_purpose(file.read_text(encoding="utf-8"))) for file in files]


def read_purpose(text: str) -> str:
    """Returns what a recipe or an option says first: its comment up to the first line that has no words.

    Args:
        text: Of the recipe.
    """
    lines = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    return re.sub(":$", ".", " ".join(lines))
