"""Proves an artifact again: every file is the one that was exported, and every reader loads the same model from it.

Its files are held against what it says of itself, and against the receipt beside it, if there is one. This finds damage
and changes, not forgery: whoever rewrites an artifact can rewrite what it says of itself; see `exporter sign`.
Then it is loaded, here and in a fresh process, by exporter, stock Keras and TensorFlow, and what they predict and hold
is compared; a converted file is opened by its own runtime, in two processes. With --in it is opened in another
environment too, with what is installed there. With --rebuild it is also made again from the recipe inside; the exit
code is 1 where that has other bytes.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporter.artifacts.records import Check
from exporter.cli.commands.confining import add_limits, run_recipe
from exporter.cli.commands.locating import locate_artifact
from exporter.config import VerifyMode
from exporter.errors import ArgumentError, ArtifactError, ExporterError, Fault, ProofError, UsageError
from exporter.processes.confinement import GIB, run_confined
from exporter.processes.fresh_process import wait_seconds
from exporter.saving.contents import Omission
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import Format
from exporter.saving.layout.records import read_record
from exporter.storage.remote import show_urls
from exporter.text.showing import print_line, write_json
from exporter.verification.environments.interpreters import find_environment

# TensorFlow, a training step on a few images, and the model with its optimizer in several copies.
_MEMORY = 4 * GIB
_TIMES = 16


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


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.artifacts.manifest import check_integrity
    from exporter.saving.contents import format_bytes

    path = locate_artifact(arguments.path)
    shown = show_urls(str(path))
    if arguments.public_key:
        from exporter.artifacts.signing import check_signature
        from exporter.storage.sidecars import name_signature

        signature = Path(arguments.signature).expanduser() if arguments.signature else name_signature(path)
        check_signature(path, Path(arguments.public_key).expanduser(), signature)
    elif arguments.signature:
        raise UsageError([Fault("--signature", "needs the key that it is checked with: add --public-key FILE")])
    _check_environments(path, arguments)
    integrity = check_integrity(path)
    code = ArtifactError.exit_code if integrity.mismatches else 0
    checks: tuple[Check, ...] = ()
    left_out: tuple[Omission, ...] = ()
    if not code and not arguments.files_only:
        checks, left_out = _load(path, integrity.bytes, arguments)
        code = 0 if all(check.passed for check in checks) else ProofError.exit_code
    if arguments.json:
        found = {"path": shown, "intact": not integrity.mismatches, **asdict(integrity)}
        found |= {"checks": [asdict(each) for each in checks], "left_out": [asdict(each) for each in left_out]}
        print(write_json(found), end="")
        return code or (_rebuild(path, arguments, quiet=True) if arguments.rebuild else 0)
    witnesses = " and ".join(f"its {witness}" for witness in integrity.witnesses)
    if not integrity.mismatches:
        if arguments.public_key:
            witnesses += f", and as signed with the private half of {arguments.public_key}"
        files = f"{integrity.files} file{'s' if integrity.files != 1 else ''}"
        print_line(f"✓ {shown}: {files}, {format_bytes(integrity.bytes)}, all as exported, by {witnesses}")
        for check in checks:
            print_line(f"{'✓' if check.passed else '✗'} {check.name}: {check.figure}; {check.detail}")
        for each in left_out:
            print_line(f"! {each.what}: {each.why}")
        if arguments.rebuild and not code:
            return _rebuild(path, arguments, quiet=False)
        return code
    number = len(integrity.mismatches)
    print_line(f"✗ {shown} is not as it was exported, by {witnesses}:", file=sys.stderr)
    for mismatch in integrity.mismatches[:20]:
        print_line(f"  {mismatch.path} {mismatch.message}", file=sys.stderr)
    if number > 20:
        print(f"  and {number - 20} more, with --json", file=sys.stderr)
    return code


def _check_environments(path: Path, arguments: argparse.Namespace) -> None:
    """Says what cannot open it, before anything is loaded."""
    if not arguments.environments:
        return
    if arguments.files_only:
        raise UsageError([Fault("--in", "opens the artifact, and --files-only loads nothing: leave one of them out")])
    faults = []
    for directory in arguments.environments:
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


def _load(path: Path, size: int, arguments: argparse.Namespace) -> tuple[tuple[Check, ...], tuple[Omission, ...]]:
    seconds = arguments.timeout or wait_seconds(size)
    memory = round(arguments.memory * GIB) if arguments.memory else _MEMORY + _TIMES * size
    try:
        asked = {"path": str(path), "environments": arguments.environments}
        found = run_confined(f"{__name__}:prove", asked, "Loading it", seconds, memory)
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


def _rebuild(path: Path, arguments: argparse.Namespace, quiet: bool) -> int:
    """Makes the artifact again and compares the bytes; says what differs and why."""
    from exporter.artifacts.inspection.comparison import compare_artifacts
    from exporter.artifacts.inspection.showing.comparison_page import print_comparison
    from exporter.artifacts.manifest import compare_files
    from exporter.cli.rerunning import plan_rerun
    from exporter.storage.digests import record_files

    plan_rerun(
        path,
        trusted=arguments.trust,
        variables=arguments.environment,
        inputs=arguments.input,
        report=lambda line: print_line(f"! {line}", sys.stderr),
    )
    with tempfile.TemporaryDirectory(prefix="exporter-rebuild-") as folder:
        given = {"trust": arguments.trust, "environment": arguments.environment, "inputs": arguments.input}
        request = {"path": str(path), "folder": folder, **given}
        again = Path(run_recipe(f"{__name__}:rebuild", request, "Making it again", arguments))
        files = record_files(again, path.name)
        different = compare_files(record_files(path, path.name), files)
        if quiet:
            return 1 if different else 0
        if not different:
            print(f"✓ made again from its recipe: the same bytes, {len(files)} of {len(files)} files")
            return 0
        print(f"✗ made again from its recipe: {len(different)} of {len(files)} files have other bytes")
        for mismatch in different[:20]:
            print_line(f"  {mismatch.path} {mismatch.message}")
        print_comparison(compare_artifacts(path, again))
    return 1
