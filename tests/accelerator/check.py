"""Exports three models on a GPU with the whole proof: `python tests/accelerator/check.py`, in at most four minutes.

`--cpu` does the same without a GPU, to try the script itself.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

# What a proof compares of every model that is compiled.
EXPECTED = {"load", "predictions", "weights", "optimizer", "predict", "evaluate", "training step"}


def export_digits(folder: Path) -> Any:
    """The network that is trained when nothing is said."""
    import exporter

    return exporter.export("digits", [f"filepath={folder}/digits"])


def export_mobilenet(folder: Path) -> Any:
    """Convolutions, of which the fastest kernels add up in an order of chance."""
    import keras

    import exporter

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    return exporter.export(model, folder / "mobilenet")


def export_lstm(folder: Path) -> Any:
    """A recurrent layer, which has a kernel of its own on a GPU."""
    import keras

    import exporter

    keras.utils.set_random_seed(0)
    layers = [keras.Input((20,), dtype="int32"), keras.layers.Embedding(50, 16), keras.layers.LSTM(32)]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error")
    return exporter.export(model, folder / "lstm")


EXPORTS: dict[str, Callable[[Path], Any]] = {
    "digits": export_digits,
    "MobileNetV2": export_mobilenet,
    "LSTM": export_lstm,
}


def find_missing(receipt: Any) -> list[str]:
    """Lists what was not proven."""
    missing = sorted(EXPECTED - {check.name for check in receipt.checks})
    return [*missing, *(entry.what for entry in receipt.left_out if entry.what.startswith("proof of"))]


def main() -> int:
    """Runs the exports, and prints a line for each.

    Returns:
        The exit code: 0 where everything was proven.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="try it without a GPU")
    arguments = parser.parse_args()

    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not arguments.cpu:
        print("check: TensorFlow sees no GPU here, and nothing was checked; --cpu tries the script without one")
        return 2
    if arguments.cpu:
        tf.config.set_visible_devices([], "GPU")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # for the process of the proof
    place = (
        "the CPU"
        if arguments.cpu
        else ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus)
    )
    failed = False
    with tempfile.TemporaryDirectory(prefix="exporter-check-") as folder:
        for name, export in EXPORTS.items():
            started = time.perf_counter()
            try:
                missing = find_missing(export(Path(folder)))
                outcome = f"not proven: {', '.join(missing)}" if missing else "proven"
            except Exception as error:
                missing, outcome = [name], f"{type(error).__name__}: {error}"
            failed |= bool(missing)
            print(f"check: {name} on {place}: {outcome}, {time.perf_counter() - started:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
