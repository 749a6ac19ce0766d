"""How long we take, how much memory and how many bytes, beside others that do the same.

    python tests/benchmarks/compare_saves.py
    python tests/benchmarks/compare_saves.py --models dense200 mobilenet --peers keras-h5 raw --repeats 5
    python tests/benchmarks/compare_saves.py --measures deploy
    python tests/benchmarks/compare_saves.py --measures all --models all --json figures.json --picture figures.svg

Each sample is one process: it builds a model, gives its optimizer slots, and times one save until everything is on the
disk (fsync), one load, or the first conversion to LiteRT, ONNX or OpenVINO, without a proof. Peers and ours take turns,
so that a slow moment of the machine hits all of them. Printed are medians, the ratios ours / peer, and the targets;
only the ratios mean something on another machine.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages import draw_targets, print_tables
from targets import judge

Figures = dict[str, float]

OURS = ("exporter-tf", "exporter-h5", "exporter-keras")
PEERS = ("tf_keras-tf", "keras-export", "saved_model.save", "raw", "keras-h5", "tf_keras-h5", "keras-keras")
LOADED = ("tf_keras-tf", "keras-h5", "tf_keras-h5", "keras-keras")
# The last one has 3 GiB of state.
MODELS = ("mobilenet", "resnet50", "transformer", "dense25", "dense200", "sequential200", "dense16x4096")
# 0.25 to 8 GiB of state in 16 layers, by the width of a layer; and layers to the limit of what is deep.
BYTES = ("dense16x1182", "dense16x2365", "dense16x4730", "dense16x6689")
LAYERS = ("dense25", "dense100", "dense400")
DEEP = "dense1300"
USUAL = ("mobilenet", "transformer", "dense200")
# What converts a live model: ours, ours with the converter that an export has started by then, and others.
CONVERTERS = ("exporter", "exporter-started", "keras")
DEPLOYED = {"litert": CONVERTERS, "onnx": (*CONVERTERS, "tf2onnx"), "openvino": CONVERTERS}
CONVERTED = ("digits", "mobilenet96")
MEASURES = ("save", "load", "layers", "bytes", "deep", "start", "proof", "sweep", "deploy")


def measure_all(measures: Sequence[str], models: Sequence[str], peers: Sequence[str], repeats: int) -> dict[str, Any]:
    """Takes the samples in turn and returns the medians: measure -> case -> peer -> figure."""
    medians: dict[str, Any] = {}
    # Stock HDF5 gives no optimizer: it is held against a load of ours that gives none either.
    loaded = [*OURS, "exporter-weights-h5", *(peer for peer in peers if peer in LOADED)]
    for measure in measures:
        match measure:
            case "save":
                medians["save"] = {model: _take("save", model, [*OURS, *peers], repeats) for model in models}
            case "load":
                medians["load"] = {model: _take("load", model, loaded, repeats) for model in models}
            case "layers":
                medians["layers"] = {model: _grow("save", model, OURS, repeats) for model in LAYERS}
                medians["layers-load"] = {model: _grow("load", model, OURS, repeats) for model in LAYERS}
            case "bytes":
                medians["bytes"] = {model: _grow("save", model, [*OURS, "raw"], repeats) for model in BYTES}
            case "deep":
                medians["deep"] = {f"{kind} {DEEP}": _take(kind, DEEP, OURS, 1) for kind in ("save", "load")}
            case "start":
                peers_of_start = ("exporter", "bare-hydra")
                cases = ("help", "cfg", "fault")
                medians["start"] = {case: _take("start", case, peers_of_start, repeats) for case in cases}
            case "proof":
                for case in ("proof", "proof of MobileNetV2"):
                    medians.setdefault("run", {})[case] = _take("run", case, ("exporter", "without-proof"), repeats)
            case "deploy":
                medians["deploy"] = {
                    f"{model} {save_format}": _take("deploy", f"{model} {save_format}", converters, repeats)
                    for model in CONVERTED
                    for save_format, converters in DEPLOYED.items()
                }
            case "sweep":
                medians.setdefault("run", {})["sweep"] = _take("run", "sweep", ("exporter", "single-runs"), repeats)
    return medians


def _grow(kind: str, model: str, peers: Sequence[str], repeats: int) -> dict[str, Figures]:
    """Adds what the cost grows with: the layers, or for the wide models the bytes."""
    layers, _, width = model.removeprefix("dense").partition("x")
    units = float(layers) * (float(width) ** 2 if width else 1)
    return {peer: {**figures, "units": units} for peer, figures in _take(kind, model, peers, repeats).items()}


def _take(kind: str, case: str, peers: Sequence[str], repeats: int) -> dict[str, Figures]:
    samples: dict[str, list[Figures]] = {peer: [] for peer in peers}
    with ExitStack() as stack:
        kept: dict[str, str] = {}
        if kind == "load":
            for peer in peers:
                kept[peer] = stack.enter_context(_make_folder())
                _take_elsewhere(kind, case, peer, kept[peer])  # writes what is loaded
        for turn in range(repeats):
            for peer in peers:
                print(f"{kind} {case}, {peer}, {turn + 1} of {repeats}", file=sys.stderr, flush=True)
                with ExitStack() as own:
                    folder = kept.get(peer) or own.enter_context(_make_folder())
                    samples[peer].append(_take_elsewhere(kind, case, peer, folder))
    return {
        peer: {name: statistics.median(sample[name] for sample in taken) for name in taken[0]}
        for peer, taken in samples.items()
    }


def _make_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-")


def _take_elsewhere(kind: str, case: str, peer: str, folder: str) -> Figures:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("samples.py")), kind, case, peer, folder],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{kind} {case}, {peer} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def describe_machine() -> dict[str, Any]:
    """Says on what the figures were measured."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measures", nargs="+", choices=(*MEASURES, "all"), default=["save"])
    parser.add_argument("--models", nargs="+", choices=(*MODELS, "all"), default=list(USUAL))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps the figures")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draws the targets, as .svg or .png")
    arguments = parser.parse_args()
    measures = MEASURES if "all" in arguments.measures else arguments.measures
    models = MODELS if "all" in arguments.models else arguments.models
    medians = measure_all(measures, models, arguments.peers, arguments.repeats)
    verdicts = judge(medians)
    if arguments.json:
        targets = [{**asdict(verdict), "reached": verdict.is_reached} for verdict in verdicts]
        content = {"machine": describe_machine(), "medians": medians, "targets": targets}
        arguments.json.write_text(json.dumps(content, indent=1))
    if arguments.picture:
        draw_targets(verdicts, arguments.picture)
    print_tables(medians, verdicts)


if __name__ == "__main__":
    main()
