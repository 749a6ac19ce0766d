"""Checks that every file of an artifact is the one that was exported: nothing changed, missing or added.

It is held against what it says of itself, and against the receipt beside it, if there is one. This finds damage and
changes, not forgery: whoever rewrites an artifact can rewrite what it says of itself.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from exporter.errors import ArtifactError, Fault, UsageError
from exporter.stores import find_artifact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL")
    parser.add_argument("--public-key", metavar="FILE", help="also check the signature, with this PEM file")
    parser.add_argument("--signature", metavar="FILE", help="the signature (default: PATH.sig)")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.manifests import examine
    from exporter.saving.contents import format_bytes

    path = find_artifact(arguments.path)
    if arguments.public_key:
        from exporter.signing import check_signature, name_signature

        signature = Path(arguments.signature).expanduser() if arguments.signature else name_signature(path)
        check_signature(path, Path(arguments.public_key).expanduser(), signature)
    elif arguments.signature:
        raise UsageError([Fault("--signature", "needs the key that it is checked with: add --public-key FILE")])
    examination = examine(path)
    code = ArtifactError.exit_code if examination.deviations else 0
    if arguments.json:
        print(json.dumps({"path": str(path), "intact": code == 0, **asdict(examination)}, indent=2, ensure_ascii=False))
        return code
    witnesses = " and ".join(f"its {witness}" for witness in examination.witnesses)
    if not code:
        if arguments.public_key:
            witnesses += f", and as signed with the private half of {arguments.public_key}"
        files = f"{examination.files} file{'s' if examination.files != 1 else ''}"
        print(f"✓ {path}: {files}, {format_bytes(examination.bytes)}, all as exported, by {witnesses}")
        return code
    number = len(examination.deviations)
    print(f"✗ {path} is not as it was exported, by {witnesses}:", file=sys.stderr)
    for deviation in examination.deviations[:20]:
        print(f"  {deviation.path} {deviation.message}", file=sys.stderr)
    if number > 20:
        print(f"  and {number - 20} more, with --json", file=sys.stderr)
    return code
