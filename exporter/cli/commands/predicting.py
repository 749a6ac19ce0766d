"""Asks an artifact of any format, through its own runtime, in a process with a deadline and a bound on its memory.

The inputs are a file: .json as TF Serving takes it, {"instances": [...]} or {"inputs": {...}}; .npz with an array for
each input; or an image, which is given the size and the channels that the endpoint takes, its values from 0 to 255.
With --json the answer is that of TF Serving: {"predictions": [...]} to instances and images, else {"outputs": ...}.
"""

import argparse
import base64
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exporter.cli.commands.confining import add_limits
from exporter.cli.commands.locating import locate_artifact
from exporter.errors import Fault, UsageError
from exporter.processes.arrays import Array, read_arrays
from exporter.processes.confinement import GIB, run_confined
from exporter.processes.fresh_process import count_bytes, wait_seconds
from exporter.saving.contents import Tensor, format_tensor
from exporter.saving.layout.records import read_record
from exporter.storage.remote import show_urls
from exporter.text.showing import escape_json, escape_lines, print_line
from exporter.verification.answers.inputs import INSTANCES, SUFFIXES

# TensorFlow, and the model in several copies.
_MEMORY = 4 * GIB
_TIMES = 16
_SHOWN = 1000  # numbers of an output that are all printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="the artifact, or its URL; of a directory of versions, the newest")
    parser.add_argument("--inputs", metavar="FILE", required=True, help="x.json, x.npz or an image such as x.png")
    parser.add_argument("--endpoint", metavar="NAME", help="which is asked (default: the one that servers ask)")
    parser.add_argument(
        "--trust",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module or package of the model's own classes, which is imported",
    )
    add_limits(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as TF Serving gives it")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    inputs = Path(arguments.inputs).expanduser()
    if inputs.suffix.lower() not in SUFFIXES or not inputs.is_file():
        known = f"a file that ends with {', '.join(SUFFIXES)}"
        raise UsageError([Fault("--inputs", f"received {inputs}; expected {known}", "the command line")])
    if arguments.trust:
        from exporter.cli.shorthands import make_importable

        make_importable([os.getcwd()])
    path = locate_artifact(arguments.path)
    size = (count_bytes(path) if path.exists() else 0) + count_bytes(inputs)
    seconds = arguments.timeout or wait_seconds(size)
    memory = round(arguments.memory * GIB) if arguments.memory else _MEMORY + _TIMES * size
    with tempfile.TemporaryDirectory(prefix="exporter-predict-") as folder:
        asked = {
            "path": str(path.absolute()),
            "inputs": str(inputs.absolute()),
            "endpoint": arguments.endpoint,
            "answers": str(Path(folder) / "answers"),
            "trusted": arguments.trust,
        }
        told = run_confined(f"{__name__}:predict", asked, "Asking it", seconds, memory)
        outputs = read_arrays(Path(folder) / "answers")
    if arguments.json:
        answer = _by_row(outputs) if told["form"] == INSTANCES else {"outputs": _unnamed(_to_json(outputs))}
        print(escape_json(json.dumps(answer, ensure_ascii=False, default=str)))
        for note in told["notes"]:
            print_line(f"! {note}", sys.stderr)
    else:
        _print(show_urls(str(path)), told, outputs)
    return 0


def predict(**asked: Any) -> dict[str, Any]:
    """Asks an artifact in the confined process; see `exporter.verification.answers.predicting.predict`."""
    from exporter.exporting.reporting import TerminalReporter
    from exporter.verification.answers import predicting

    with TerminalReporter():  # which keeps back what TensorFlow says of itself
        return predicting.predict(**asked)


def _print(path: str, told: Mapping[str, Any], outputs: Mapping[str, Array]) -> None:
    print_line(f"{told['endpoint']} of {path}")
    for name, tensor in told["given"].items():
        print_line(f"  {name}  {format_tensor(read_record(Tensor, tensor))}")
    for note in told["notes"]:
        print_line(f"  ! {note}")
    for name, array in outputs.items():
        print_line(f"→ {name}  {format_tensor(Tensor(tuple(array.shape), _name_dtype(array)))}")
        print(escape_lines(np.array2string(array, threshold=_SHOWN)))


def _name_dtype(array: Array) -> str:
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def _by_row(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Gives the answer for each sample, where each output has one for each; else by output."""
    counts = {len(array) if array.ndim else None for array in outputs.values()}
    if len(counts) != 1 or None in counts:
        return {"outputs": _unnamed(_to_json(outputs))}
    plain = _to_json(outputs)
    return {"predictions": [_unnamed(dict(zip(plain, row, strict=True))) for row in zip(*plain.values(), strict=True)]}


def _unnamed(values: dict[str, Any]) -> Any:
    """Gives a single value without its name, as TF Serving does."""
    return next(iter(values.values())) if len(values) == 1 else values


def _to_json(outputs: Mapping[str, Array]) -> dict[str, Any]:
    return {name: _to_plain(array) for name, array in outputs.items()}


def _to_plain(array: Array) -> Any:
    if array.dtype.kind in "OSU":
        return _encode(array.astype(object).tolist())
    if array.dtype.kind in "fV" and array.dtype.itemsize < 8:
        # The shortest decimals that give the same number back.
        return (
            array.astype(str).astype(np.float64).tolist() if array.dtype.kind == "f" else array.astype(float).tolist()
        )
    return array.tolist()


def _encode(value: Any) -> Any:
    if isinstance(value, list):
        return [_encode(each) for each in value]
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
