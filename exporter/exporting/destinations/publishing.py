"""The last step: a finished artifact takes its place, with its receipt, and a request to try it with, beside it."""

from pathlib import Path

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Request
from exporter.storage import staging
from exporter.storage.sidecars import list_sidecars, name_receipt, name_request, name_signature

_LONGEST_LINE = 400  # of a request that a person can read on the command line


def publish_artifact(
    staged: Path,
    target: Path,
    replace: bool,
    receipt: Receipt | None,
    body: str | None = None,
    signature: str | None = None,
) -> None:
    """Puts a staged artifact in its place in one step, with its receipt and a long request beside it.

    Args:
        staged: The complete artifact, where `stage_beside` said.
        target: Where it goes.
        replace: Whether something that is there may be replaced. False also refuses what has appeared there
            since the export began.
        receipt: Of the artifact; None where it came without one.
        body: A request that is kept in a file; None for no such file.
        signature: Of the same bytes, which were signed before; None where they were not.

    Raises:
        TargetExistsError: The target exists and may not be replaced; all is as it was.
        ExportError: The artifact is in its place, and a file beside it could not be written.
        OSError: The file system refused; all is as it was.
    """
    # What is beside the target speaks of what was here before.
    beside = dict.fromkeys(list_sidecars(target))
    beside |= {name_request(target): body, name_signature(target): signature}
    if receipt is not None:
        beside[name_receipt(target)] = receipt.to_json()
    staging.publish(staged, target, replace=replace, beside=beside)


def place_request(made: tuple[str, str] | None, target: Path) -> tuple[Request | None, str | None]:
    """Decides where a request to the artifact's server is kept: a short one in the receipt, a long one in a file.

    Args:
        made: The endpoint, and the body as JSON; None where there is no request.
        target: The artifact.

    Returns:
        What the receipt says of it, and what goes into the file, or None.
    """
    if made is None:
        return None, None
    endpoint, body = made
    if len(body) > _LONGEST_LINE:
        return Request(endpoint, None, str(name_request(target).absolute())), body
    return Request(endpoint, body, None), None


def keep_receipt(receipt: Receipt, run_directory: Path) -> None:
    """Writes the receipt into the directory of a run too.

    Args:
        receipt: The receipt.
        run_directory: Where `receipt.json` goes. It is made if it is missing.

    Raises:
        OSError: The file system refused.
    """
    run_directory.mkdir(parents=True, exist_ok=True)
    staging.replace_text(run_directory / "receipt.json", receipt.to_json())
