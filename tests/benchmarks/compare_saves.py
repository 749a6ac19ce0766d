"""How long one save takes, how much memory and how many bytes, beside other ways to save the same model.

    python tests/benchmarks/compare_saves.py
    python tests/benchmarks/compare_saves.py --models dense200 mobilenet --peers keras-h5 raw --repeats 5

Each sample is one process that builds the model, gives its optimizer slots, and times one save until everything is
on the disk (fsync). Peers and ours take turns, so that a slow moment of the machine hits all of them. Printed are
medians and the ratios ours / peer; only the ratios mean something on another machine. `--json FILE` keeps the figures.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("exporter-tf", "exporter-h5", "exporter-keras")
# Ours -> the peers that write the same kind of file.
RIVALS = {
    "exporter-tf": ("tf_keras-tf", "keras-export", "saved_model.save", "raw"),
    "exporter-h5": ("keras-h5", "tf_keras-h5", "raw"),
    "exporter-keras": ("keras-keras", "raw"),
}
PEERS = tuple(dict.fromkeys(peer for peers in RIVALS.values() for peer in peers))
MODELS = ("mobilenet", "resnet50", "transformer", "dense25", "dense200", "dense4096")
MEBIBYTE = 1 << 20


def build_model(name: str, keras: Any) -> Any:
    """Builds one of the models with Keras 3 or with tf_keras, with Adam and its slots."""
    if name == "mobilenet":
        model = keras.applications.MobileNetV2(weights=None)
    elif name == "resnet50":
        model = keras.applications.ResNet50(weights=None)
    elif name == "transformer":
        model = _build_transformer(keras, blocks=12, width=256, heads=4, length=128, words=8192)
    elif name in ("dense25", "dense200"):
        model = _build_dense(keras, layers=int(name.removeprefix("dense")), width=64)
    else:
        model = _build_dense(keras, layers=16, width=4096)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _build_dense(keras: Any, layers: int, width: int) -> Any:
    inputs = keras.Input((width,))
    outputs = inputs
    for _ in range(layers):
        outputs = keras.layers.Dense(width, activation="relu")(outputs)
    return keras.Model(inputs, outputs)


def _build_transformer(keras: Any, blocks: int, width: int, heads: int, length: int, words: int) -> Any:
    inputs = keras.Input((length,), dtype="int32")
    hidden = keras.layers.Embedding(words, width)(inputs)
    for _ in range(blocks):
        attended = keras.layers.MultiHeadAttention(heads, width // heads)(hidden, hidden)
        hidden = keras.layers.LayerNormalization()(hidden + attended)
        wide = keras.layers.Dense(4 * width, activation="relu")(hidden)
        hidden = keras.layers.LayerNormalization()(hidden + keras.layers.Dense(width)(wide))
    return keras.Model(inputs, keras.layers.Dense(words // 64)(hidden))


def make_save(peer: str) -> Callable[[Any, Path], None]:
    """Returns the save of one peer: from a model to a new path."""
    import keras
    import tensorflow as tf

    import exporter

    def write_raw(model: Any, path: Path) -> None:
        with path.open("wb") as file:
            for variable in [*model.variables, *model.optimizer.variables]:
                file.write(memoryview(variable.numpy()).cast("B") if variable.shape else variable.numpy().tobytes())

    saves: dict[str, Callable[[Any, Path], Any]] = {
        "exporter-tf": lambda model, path: exporter.save_model(model, path, save_format="tf"),
        "exporter-h5": lambda model, path: exporter.save_model(model, path.with_suffix(".h5")),
        "exporter-keras": lambda model, path: exporter.save_model(model, path.with_suffix(".keras")),
        "keras-h5": lambda model, path: model.save(path.with_suffix(".h5")),
        "keras-keras": lambda model, path: model.save(path.with_suffix(".keras")),
        "keras-export": lambda model, path: model.export(path, verbose=False),
        "saved_model.save": lambda model, path: tf.saved_model.save(model, path),
        "tf_keras-tf": lambda model, path: model.save(path, save_format="tf"),
        "tf_keras-h5": lambda model, path: model.save(path.with_suffix(".h5"), save_format="h5"),
        "raw": write_raw,
    }
    keras.config.disable_interactive_logging()
    return saves[peer]


def take_sample(name: str, peer: str, folder: Path) -> dict[str, float]:
    """Times one save in this process."""
    if peer.startswith("tf_keras"):
        import tf_keras as keras
    else:
        import keras

    model = build_model(name, keras)
    variables = [*model.variables, *(v for v in _list(model.optimizer) if all(v is not w for w in model.variables))]
    state = sum(int(v.numpy().nbytes) for v in variables)
    largest = max(int(v.numpy().nbytes) for v in variables)
    save = make_save(peer)
    small = build_small(keras)
    save(small, folder / "warm")  # imports and first-call costs are the process's, not the save's

    before = _read_memory()
    with _Peak() as peak:
        started = time.perf_counter()
        save(model, folder / "model")
        _sync(folder)
        seconds = time.perf_counter() - started
    size = sum(
        p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and _of_model(p, folder)
    )
    return {
        "seconds": seconds,
        "extra_memory": peak.value - before,
        "bytes": float(size),
        "state": float(state),
        "largest": float(largest),
    }


def _list(optimizer: Any) -> list[Any]:
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


def build_small(keras: Any) -> Any:
    """Builds the model with which a process is warmed up."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _of_model(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0].startswith("model")


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def _read_memory() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the memory of a process")


class _Peak:
    """The highest memory of the process, looked at every two milliseconds."""

    def __enter__(self) -> "_Peak":
        self.value = _read_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.value = max(self.value, _read_memory())

    def __exit__(self, *details: object) -> None:
        self._done.set()
        self._thread.join()


def measure(models: list[str], peers: list[str], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Takes the samples in turn and returns the medians: model -> peer -> figure."""
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for model in models:
        samples: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
        for turn in range(repeats):
            for peer in peers:
                print(f"{model}, {peer}, {turn + 1} of {repeats}", file=sys.stderr, flush=True)
                samples[peer].append(_take_elsewhere(model, peer))
        medians[model] = {
            peer: {key: statistics.median(sample[key] for sample in taken) for key in taken[0]}
            for peer, taken in samples.items()
        }
    return medians


def _take_elsewhere(model: str, peer: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="benchmark-") as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--sample", model, peer, folder],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{model}, {peer} failed:\n{done.stderr[-2000:]}")
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result


def show(medians: dict[str, dict[str, dict[str, float]]]) -> None:
    """Prints the medians, and the ratios of ours to the peers."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for model, figures in medians.items():
        first = next(iter(figures.values()))
        table = Table(title=f"{model}: {first['state'] / MEBIBYTE:.1f} MiB of state", title_justify="left")
        for heading in ("", "seconds", "extra MiB", "largest MiB", "bytes / state"):
            table.add_column(heading, justify="left" if not heading else "right")
        ours = [peer for peer in OURS if peer in figures]
        for own in ours:
            table.add_column(f"{own.removeprefix('exporter-')} / it", justify="right")
        for peer, figure in figures.items():
            ratios = [
                f"{figures[own]['seconds'] / figure['seconds']:.2f}" if peer in RIVALS[own] else "" for own in ours
            ]
            table.add_row(
                peer,
                f"{figure['seconds']:.2f}",
                f"{figure['extra_memory'] / MEBIBYTE:.0f}",
                f"{figure['largest'] / MEBIBYTE:.1f}",
                f"{figure['bytes'] / figure['state']:.3f}",
                *ratios,
            )
        console.print(table)


def main() -> None:
    """Runs the benchmark, or one sample of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["mobilenet", "transformer", "dense200"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sample", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample:
        model, peer, folder = arguments.sample
        print(json.dumps(take_sample(model, peer, Path(folder))))
        return
    medians = measure(arguments.models, [*OURS, *arguments.peers], arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1))
    show(medians)


if __name__ == "__main__":
    main()
