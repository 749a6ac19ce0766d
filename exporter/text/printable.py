"""Characters that a terminal, a browser and a log show as they are."""


def escape(text: str) -> str:
    r"""Writes what is not printable as Python writes it in a text: `\x1b`, `\n`, `\u202e`.

    Printable are letters, marks, digits, punctuation, symbols and the blank. Escaped are control characters, line
    breaks, characters that have no width or change the direction of writing, halves of surrogate pairs, and what
    Unicode has not assigned: also the joiner inside of some emoji, which then stand side by side.

    Args:
        text: Whatever was received, such as the name of a file.

    Returns:
        It, on one line, and at its full length.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
