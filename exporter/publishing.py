"""The last step: a finished artifact takes its place; its receipt, and a request to try it with, stand beside it."""

import os
from pathlib import Path

from exporter import _staging
from exporter.errors import TargetExistsError
from exporter.receipts import Receipt, Request

_LONGEST_LINE = 400  # of a request that a person can read on the command line


def publish_artifact(staged: Path, target: Path, replace: bool) -> None:
    """Puts a staged artifact in its place in one step.

    Args:
        staged: The complete artifact, beside its target.
        target: Where it goes.
        replace: Whether something that is there may be replaced. False also refuses what has appeared there
            since the export began.

    Raises:
        TargetExistsError: The target exists and may not be replaced; it is as it was.
        OSError: The file system refused; the target is as it was.
    """
    if not replace and os.path.lexists(target):
        raise TargetExistsError(
            f"{target} has appeared while the model was exported, and `overwrite` is false. "
            "Choose another `filepath`, or allow it with overwrite=true."
        )
    _staging.publish(staged, target)


def name_receipt(target: Path) -> Path:
    """Returns where the receipt of an artifact stands: beside it, under its whole name."""
    return target.with_name(f"{target.name}.receipt.json")


def publish_request(made: tuple[str, str] | None, target: Path) -> Request | None:
    """Keeps a request to the artifact's server: a short one in the receipt, a long one beside the artifact.

    Args:
        made: The endpoint, and the body as JSON; None where there is no request.
        target: The artifact. `<name>.request.json` of an artifact that was there before is replaced or removed.

    Returns:
        What the receipt says of it.

    Raises:
        OSError: The file system refused.
    """
    beside = name_request(target)
    if made is not None and len(made[1]) > _LONGEST_LINE:
        endpoint, body = made
        _staging.replace_text(beside, body)
        return Request(endpoint, None, str(beside.absolute()))
    beside.unlink(missing_ok=True)
    return None if made is None else Request(*made, None)


def name_request(target: Path) -> Path:
    """Returns where a long request to an artifact stands: beside it, under its whole name."""
    return target.with_name(f"{target.name}.request.json")


def publish_receipt(receipt: Receipt, target: Path, run_directory: Path | None) -> Path:
    """Writes the receipt beside the artifact, and into the run's directory.

    Args:
        receipt: The receipt.
        target: The artifact.
        run_directory: Where `receipt.json` goes as well; None for nowhere else. It is made if it is missing.

    Returns:
        The receipt beside the artifact.

    Raises:
        OSError: The file system refused.
    """
    text = receipt.to_json()
    beside = name_receipt(target)
    if run_directory is not None:
        run_directory.mkdir(parents=True, exist_ok=True)
        _staging.replace_text(run_directory / "receipt.json", text)
    _staging.replace_text(beside, text)
    return beside
