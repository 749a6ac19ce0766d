"""The files that stand beside an artifact and speak of it; they go when it is replaced."""

from pathlib import Path

RECEIPT = ".receipt.json"
REQUEST = ".request.json"
SIGNATURE = ".sig"
SIDECARS = (RECEIPT, REQUEST, SIGNATURE)


def name_receipt(target: Path) -> Path:
    """Returns where the receipt of an artifact stands: beside it, under its whole name."""
    return _name(target, RECEIPT)


def name_request(target: Path) -> Path:
    """Returns where a long request to an artifact stands: beside it, under its whole name."""
    return _name(target, REQUEST)


def name_signature(target: Path) -> Path:
    """Returns where the signature of an artifact stands: beside it, under its whole name."""
    return _name(target, SIGNATURE)


def list_sidecars(target: Path) -> tuple[Path, ...]:
    """Lists where everything stands that speaks of an artifact, whether it is there or not."""
    return tuple(_name(target, suffix) for suffix in SIDECARS)


def locate_receipt(filepath: str) -> str:
    """Returns where the receipt of an artifact stands.

    Args:
        filepath: Of the artifact, as the receipt says it: an absolute path, or a URL.
    """
    return f"{filepath}{RECEIPT}"


def _name(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}{suffix}")
