"""What a stranger's recipe may read and contact: the files whose bytes the artifact knows, and what its user named."""

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from exporter.artifacts.records import Input
from exporter.config import ExportConfig
from exporter.errors import Fault
from exporter.exporting.provenance import (
    IMAGENET,
    describe_recipe,
    digest_input,
    is_read_whole,
    list_downloads,
    list_files,
)
from exporter.storage.remote import is_url
from exporter.text.showing import shorten

_LONGEST_SHOWN = 200


def check_reads(
    config: ExportConfig,
    recorded: Collection[Input],
    overrides: Sequence[str],
    *,
    named: Collection[str],
    allow_drift: bool,
    report: Callable[[str], None],
) -> Iterator[Fault]:
    """Finds every file that the recipe would read, and that neither its artifact nor its user vouches for.

    An artifact vouches for a file whose digest it knows: who wrote it had the same bytes, and learns nothing.

    Args:
        config: What the recipe composes to.
        recorded: The files that it read, as the artifact says.
        overrides: What its user typed.
        named: Paths and URLs that it may read, whatever they hold.
        allow_drift: Whether files that the artifact knows may have other bytes.
        report: Is given a line for each file that may be read although its bytes are not those that the artifact knows.

    Yields:
        The faults.
    """
    recipe = describe_recipe(config, resolved=True)
    typed = [path for path in map(_read_typed, overrides) if path is not None]
    digests = {each.key: each.sha256 for each in recorded}
    for path in (*list_downloads(recipe["model"], "model"), *list_downloads(recipe["signatures"], "signatures")):
        if path not in typed and IMAGENET not in named:
            yield Fault(path, f"Keras would download its weights; to let it: --input {IMAGENET}")
    for path, value in list_files(recipe):
        if any(_is_inside(path, place) for place in typed):
            continue
        said = config.origin.written.get(path)  # what the message names where the value is of the environment
        is_allowed = said in named or _is_named(value, named)
        shown, expected = shorten(value, _LONGEST_SHOWN), digests.get(path)
        if expected is None or is_url(value):
            if not is_allowed:
                yield Fault(path, _refuse_unknown(shown, value))
            continue
        digest = shorten(expected, 64)
        try:
            found = digest_input(value, is_read_whole=is_read_whole(recipe, path))
        except OSError as error:
            if not is_allowed:
                yield Fault(path, f"{shown} cannot be read: {error.strerror}; set {path} to another file")
            continue
        if found is None and not is_allowed:
            message = f"{shown} is no file; the artifact was made from one with the sha256 {digest}; set {path} to it"
            yield Fault(path, message)
        elif found is not None and found[0] != expected and (is_allowed or allow_drift):
            report(f"{path}: {shown} has changed: sha256 {digest} -> {found[0]}")
        elif found is not None and found[0] != expected:
            message = (
                f"{shown} has the sha256 {found[0]}, and the artifact was made from one with {digest}; "
                f"set {path} to that file, or take the one that is there with --allow-drift"
            )
            yield Fault(path, message)


def _refuse_unknown(shown: str, value: str) -> str:
    remedy = f"to let it: --input {shlex.quote(shown)}"
    if is_url(value):
        return f"{shown} would be contacted; {remedy}"
    return f"{shown} is no input that the artifact vouches for, and would be read; {remedy}"


def _read_typed(override: str) -> str | None:
    """Returns the dotted path of what an override replaces as a whole; a mapping is only merged into what is there."""
    path, _, value = override.partition("=")
    return None if value.lstrip().startswith("{") else path.lstrip("+~")


def _is_inside(path: str, place: str) -> bool:
    return path == place or path.startswith((f"{place}.", f"{place}["))


def _is_named(value: str, named: Collection[str]) -> bool:
    if value in named:
        return True
    if is_url(value) or "\0" in value:
        return False
    place = Path(value).expanduser().absolute()
    return any(not is_url(each) and Path(each).expanduser().absolute() == place for each in named)
