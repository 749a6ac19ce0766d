"""What a file of YAML says of itself."""


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
    return " ".join(lines)
