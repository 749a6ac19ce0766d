"""Proves an artifact again: every file is the one that was exported, and every reader loads the same model from it.

Its files are held against what it says of itself, and against the receipt beside it, if there is one. This finds damage
and changes, not forgery: whoever rewrites an artifact can rewrite what it says of itself; see `exporter sign`.
Then it is loaded, here and in a fresh process, by exporter, stock Keras and TensorFlow, and what they predict and hold
is compared; a converted file is opened by its own runtime, in two processes. With --in it is opened in another
environment too, with what is installed there. With --rebuild it is also made again from the recipe inside; the exit
code is 1 where that has other bytes.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.artifacts.manifest import Integrity, Mismatch
from exporter.artifacts.records import Check
from exporter.cli.commands.confining import add_limits, run_recipe
from exporter.cli.commands.locating import locate_artifact
from exporter.config import VerifyMode
from exporter.errors import ArgumentError, ArtifactError, ExporterError, Fault, ProofError, UsageError
from exporter.processes.confinement import GIB, run_confined
from exporter.processes.fresh_process import wait_seconds
from exporter.saving.contents import Omission, format_bytes
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import Format
from exporter.saving.layout.records import read_record
from exporter.storage.remote import show_urls
from exporter.text.page import Shown
from exporter.text.showing import escape_line, print_line, write_json
from exporter.verification.environments.interpreters import find_environment

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.artifacts.inspection.comparison import Comparison

# TensorFlow, a training step on a few images, and the model with its optimizer in several copies.
_MEMORY = 4 * GIB
_TIMES = 16
# Files that are named; --json has all of them.
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL; of a directory of versions, the newest")
    parser.add_argument("--files-only", action="store_true", help="load nothing: this needs no TensorFlow")
    parser.add_argument("--public-key", metavar="FILE", help="also check the signature, with this PEM file")
    parser.add_argument("--signature", metavar="FILE", help="the signature (default: PATH.sig)")
    parser.add_argument(
        "--in",
        metavar="ENVIRONMENT",
        action="append",
        default=[],
        dest="environments",
        help="also open it with the Python of this environment, a directory as `python -m venv` makes",
    )
    parser.add_argument("--rebuild", action="store_true", help="also make it again, and compare the bytes")
    parser.add_argument(
        "--trust", metavar="MODULE", action="append", default=[], help="with --rebuild: as for exporter rerun"
    )
    parser.add_argument(
        "--environment", metavar="NAME", action="append", default=[], help="with --rebuild: as for exporter rerun"
    )
    parser.add_argument(
        "--input", metavar="PATH", action="append", default=[], help="with --rebuild: as for exporter rerun"
    )
    add_limits(parser)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What an artifact that was made again has of its bytes.

    Attributes:
        files: How many files it has.
        mismatches: Those with other bytes.
        comparison: How the two artifacts differ; None where no file does.
    """

    files: int
    mismatches: tuple[Mismatch, ...]
    comparison: "Comparison | None"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Verification(Shown):
    """What was found of an artifact that was verified.

    Attributes:
        path: Its path or URL.
        integrity: What its bytes were held against.
        public_key: The file of the key that it is signed with; None where nobody asked.
        checks: Each comparison of what its readers make of it; empty where it was not loaded.
        left_out: What could not be compared, or is not held for some reader.
        rebuilt: What came of making it again; None where nobody asked.
    """

    path: str
    integrity: Integrity
    public_key: str | None = None
    checks: tuple[Check, ...] = ()
    left_out: tuple[Omission, ...] = ()
    rebuilt: Rebuilt | None = None

    @property
    def intact(self) -> bool:
        """Whether every file is as it was exported."""
        return not self.integrity.mismatches

    @property
    def exit_code(self) -> int:
        """With which the command ends."""
        if not self.intact:
            return ArtifactError.exit_code
        if not all(check.passed for check in self.checks):
            return ProofError.exit_code
        return int(self.rebuilt is not None and bool(self.rebuilt.mismatches))

    @property
    def passed(self) -> bool:
        """Whether all that was asked is as it should be."""
        return self.exit_code == 0

    def __repr__(self) -> str:
        """Says in one line whether it passed."""
        return escape_line(f"<Verification of {self.path}: {'passed' if self.passed else 'failed'}>")

    def show(self, console: "Console") -> None:
        """Prints what `exporter verify` prints."""
        for line in self._list_lines():
            console.print(escape_line(line), soft_wrap=True, markup=False, emoji=False)
        if self.rebuilt is not None and self.rebuilt.comparison is not None:
            self.rebuilt.comparison.show(console)

    def _list_lines(self) -> Iterator[str]:
        integrity = self.integrity
        witnesses = " and ".join(f"its {witness}" for witness in integrity.witnesses)
        if not self.intact:
            yield f"✗ {self.path} is not as it was exported, by {witnesses}:"
            yield from (f"  {mismatch.path} {mismatch.message}" for mismatch in integrity.mismatches[:_SHOWN])
            if len(integrity.mismatches) > _SHOWN:
                yield f"  and {len(integrity.mismatches) - _SHOWN} more, with --json"
            return
        if self.public_key:
            witnesses += f", and as signed with the private half of {self.public_key}"
        files = f"{integrity.files} file{'s' if integrity.files != 1 else ''}"
        yield f"✓ {self.path}: {files}, {format_bytes(integrity.bytes)}, {self._word_state()} by {witnesses}"
        for check in self.checks:
            yield f"{'✓' if check.passed else '✗'} {check.name}: {check.figure}; {check.detail}"
        yield from (f"! {each.what}: {each.why}" for each in self.left_out)
        rebuilt = self.rebuilt
        if rebuilt is None:
            return
        if not rebuilt.mismatches:
            yield f"✓ made again from its recipe: the same bytes, {rebuilt.files} of {rebuilt.files} files"
            return
        yield f"✗ made again from its recipe: {len(rebuilt.mismatches)} of {rebuilt.files} files have other bytes"
        yield from (f"  {mismatch.path} {mismatch.message}" for mismatch in rebuilt.mismatches[:_SHOWN])

    def _word_state(self) -> str:
        is_saved = self.integrity.witnesses == ("checksums",)
        return "every tensor and record as it was saved," if is_saved else "all as exported,"

    def to_json(self) -> str:
        """Returns what was found as JSON."""
        found = {"path": self.path, "intact": self.intact, **asdict(self.integrity)}
        found |= {"checks": [asdict(each) for each in self.checks]}
        return write_json(found | {"left_out": [asdict(each) for each in self.left_out]})


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    found = verify(
        arguments.path,
        files_only=arguments.files_only,
        public_key=arguments.public_key,
        signature=arguments.signature,
        environments=arguments.environments,
        rebuild=arguments.rebuild,
        trust=arguments.trust,
        environment=arguments.environment,
        inputs=arguments.input,
        timeout=arguments.timeout,
        memory=arguments.memory,
        report=lambda line: print_line(f"! {line}", sys.stderr),
    )
    if arguments.json:
        print(found.to_json(), end="")
    else:
        found.print(None if found.intact else sys.stderr)
    return found.exit_code


def verify(
    path: str | os.PathLike[str],
    *,
    files_only: bool = False,
    public_key: str | os.PathLike[str] | None = None,
    signature: str | os.PathLike[str] | None = None,
    environments: Sequence[str] = (),
    rebuild: bool = False,
    trust: Sequence[str] = (),
    environment: Sequence[str] = (),
    inputs: Sequence[str] = (),
    timeout: float | None = None,
    memory: float | None = None,
    report: Callable[[str], None] | None = None,
) -> Verification:
    """Proves an artifact again; see `exporter.verify`.

    Args:
        path: See there, also for the others.
        files_only: See there.
        public_key: See there.
        signature: See there.
        environments: See there.
        rebuild: See there.
        trust: See there.
        environment: See there.
        inputs: See there.
        timeout: See there.
        memory: See there.
        report: Is given a line for each thing that is not as it was when the artifact was made.
    """
    place = locate_artifact(path)
    key = None if public_key is None else os.fspath(public_key)
    if key is not None:
        from exporter.artifacts.signing import check_signature
        from exporter.storage.sidecars import name_signature

        beside = name_signature(place) if signature is None else Path(signature).expanduser()
        check_signature(place, Path(key).expanduser(), beside)
    elif signature is not None:
        raise UsageError([Fault("--signature", "needs the key that it is checked with: add --public-key FILE")])
    _check_environments(place, environments, files_only)
    found = Verification(path=show_urls(str(place)), integrity=_check_files(place), public_key=key)
    if found.intact and not files_only:
        checks, left_out = _load(place, found.integrity.bytes, environments, timeout, memory)
        found = replace(found, checks=checks, left_out=left_out)
    if not rebuild or not found.passed:
        return found
    given = {"trust": list(trust), "environment": list(environment), "inputs": list(inputs)}
    return replace(found, rebuilt=_rebuild(place, given, timeout, memory, report))


def _check_files(path: Path) -> Integrity:
    """Holds an artifact against its manifest and its receipt; one that was only saved, against the sums inside."""
    from exporter.artifacts.manifest import UnsealedError, check_integrity

    try:
        return check_integrity(path)
    except UnsealedError:
        from exporter.artifacts.inspection import check_sums

        found = check_sums(path)
        if found is None:
            raise
        return found


def _check_environments(path: Path, environments: Sequence[str], files_only: bool) -> None:
    """Says what cannot open it, before anything is loaded."""
    if not environments:
        return
    if files_only:
        raise UsageError([Fault("--in", "opens the artifact, and --files-only loads nothing: leave one of them out")])
    faults = []
    for directory in environments:
        try:
            find_environment(directory, _find_format(path))
        except ArgumentError as error:
            faults.append(Fault("--in", str(error)))
    if faults:
        raise UsageError(faults)


def _find_format(path: Path) -> Format:
    from exporter.artifacts.inspection.artifacts import open_artifact

    with open_artifact(path) as artifact:
        found = FORMATS.get(artifact.format)
    if found is None:
        raise UsageError([Fault("--in", f"opens what exporter writes, and {path} is something else")])
    return found


def prove(path: str, environments: Sequence[str]) -> dict[str, Any]:
    """Loads an artifact and compares what its readers make of it; see `reverify`.

    Args:
        path: The artifact.
        environments: Directories of others that have to open it as well.

    Returns:
        Its `checks`, and what was `left_out`.
    """
    from exporter.artifacts.inspection.artifacts import open_artifact

    with open_artifact(Path(path)) as artifact:
        recipe, chosen = artifact.recipe or {}, FORMATS.get(artifact.format)
    from exporter.exporting.reporting import TerminalReporter

    with TerminalReporter():  # which keeps back what TensorFlow says of itself
        checks, left_out = _prove(Path(path), recipe, chosen, environments)
    return {"checks": [asdict(each) for each in checks], "left_out": [asdict(each) for each in left_out]}


def _prove(
    path: Path, recipe: Mapping[str, Any], chosen: Format | None, environments: Sequence[str]
) -> tuple[Sequence[Check], Sequence[Omission]]:
    if not isinstance(chosen, DeployedFormat):
        from exporter.verification.reverification import reverify

        return reverify(path, recipe, chosen, environments)
    from exporter.verification.deployment.reverification import reverify_deployed

    checks = reverify_deployed(path, chosen)
    if not environments or not all(each.passed for each in checks):
        return checks, ()
    from exporter.verification.environments.reverification import reverify_deployed_elsewhere

    found = reverify_deployed_elsewhere(environments, chosen, path)
    return (*checks, *found.checks), found.left_out


def _load(
    path: Path, size: int, environments: Sequence[str], timeout: float | None, memory: float | None
) -> tuple[tuple[Check, ...], tuple[Omission, ...]]:
    seconds = timeout or wait_seconds(size)
    most = round(memory * GIB) if memory else _MEMORY + _TIMES * size
    try:
        asked = {"path": str(path), "environments": list(environments)}
        found = run_confined(f"{__name__}:prove", asked, "Loading it", seconds, most)
    except ExporterError as error:
        raise ArtifactError(
            f"Every file of {path} is as it was exported, and it cannot be loaded: {error} "
            "To check its files alone: --files-only."
        ) from error
    checks = read_record(tuple[Check, ...], found["checks"])
    left_out = read_record(tuple[Omission, ...], found["left_out"])
    return tuple(checks), tuple(left_out)


def rebuild(path: str, folder: str, trust: list[str], environment: list[str], inputs: list[str]) -> str:
    """Makes an artifact again from the recipe inside it.

    Args:
        path: The artifact.
        folder: Where the new one goes.
        trust: See `exporter.cli.rerunning.plan_rerun`.
        environment: Its `variables`.
        inputs: See there.

    Returns:
        The path of the new one.
    """
    from exporter.cli.rerunning import plan_rerun
    from exporter.exporting.job import run_export
    from exporter.exporting.provenance import describe_recipe
    from exporter.exporting.reporting import TerminalReporter

    config = plan_rerun(Path(path), trusted=trust, variables=environment, inputs=inputs)
    config.filepath = str(Path(folder) / Path(config.filepath).name)
    config.origin.written |= {"verify": describe_recipe(config)["verify"]}
    config.verify.mode = VerifyMode.NONE
    with TerminalReporter() as reporter:
        return run_export(config, reporter=reporter).filepath


def _rebuild(
    path: Path,
    given: Mapping[str, list[str]],
    timeout: float | None,
    memory: float | None,
    report: Callable[[str], None] | None,
) -> Rebuilt:
    """Makes the artifact again and compares the bytes."""
    from exporter.artifacts.inspection.comparison import compare_artifacts
    from exporter.artifacts.manifest import compare_files
    from exporter.cli.rerunning import plan_rerun
    from exporter.storage.digests import record_files

    trust, environment, inputs = given["trust"], given["environment"], given["inputs"]
    plan_rerun(path, trusted=trust, variables=environment, inputs=inputs, report=report)
    with tempfile.TemporaryDirectory(prefix="exporter-rebuild-") as folder:
        request = {"path": str(path), "folder": folder, **given}
        again = Path(run_recipe(f"{__name__}:rebuild", request, "Making it again", timeout, memory))
        files = record_files(again, path.name)
        different = compare_files(record_files(path, path.name), files)
        comparison = compare_artifacts(path, again) if different else None
    return Rebuilt(files=len(files), mismatches=tuple(different), comparison=comparison)
