"""Signs every file of an artifact with a key of one's own; `exporter verify PATH --public-key KEY` checks it.

The signature is a Sigstore bundle beside the artifact, `<name>.sig`, as the OpenSSF library model-signing makes it.
Nothing is asked of the network.
"""

import argparse
import getpass
import sys
from pathlib import Path

from exporter.text.showing import print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact")
    parser.add_argument("--key", metavar="FILE", required=True, help="PEM file of an elliptic-curve private key")
    parser.add_argument("--signature", metavar="FILE", help="where the signature goes (default: PATH.sig)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    from exporter.artifacts.signing import is_encrypted, sign
    from exporter.storage.sidecars import name_signature

    path, key = Path(arguments.path).expanduser(), Path(arguments.key).expanduser()
    signature = Path(arguments.signature).expanduser() if arguments.signature else name_signature(path)
    asks = is_encrypted(key) and sys.stdin.isatty()
    sign(path, key, signature, getpass.getpass(f"Password of {key}: ") if asks else None)
    print_line(f"✓ {path} is signed: {signature}")
    return 0
