"""The files that stand beside an artifact and speak of it; they go when it is replaced."""

from pathlib import Path


def name_receipt(target: Path) -> Path:
    """Returns where the receipt of an artifact stands: beside it, under its whole name."""
    return target.with_name(f"{target.name}.receipt.json")


def name_request(target: Path) -> Path:
    """Returns where a long request to an artifact stands: beside it, under its whole name."""
    return target.with_name(f"{target.name}.request.json")


def locate_receipt(filepath: str) -> str:
    """Returns where the receipt of an artifact stands.

    Args:
        filepath: Of the artifact, as the receipt says it: an absolute path, or a URL.
    """
    return f"{filepath}.receipt.json"
