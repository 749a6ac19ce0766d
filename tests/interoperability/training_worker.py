"""A process that goes on with the training: `python -m interoperability.training_worker RUNTIME FOLDER`.

It has the artifact and the batches, and no code of the model. For each way it writes what the endpoints said and
predict, and the variables in the end: as a checkpoint (C API) or an `.npz` file (`tf.saved_model.load`). It prints what
it is warned of, and what it imported of the packages that it is to do without.
"""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .cases import Array
from .training_ways import BATCH, WAYS

Call = Callable[[str, dict[str, Array]], dict[str, Array]]
Save = Callable[[Path], None]


def open_with_c(path: Path) -> tuple[Call, Save]:
    from .c_api import Session

    session = Session(path)
    return session.call, session.save_variables


def open_with_tensorflow(path: Path) -> tuple[Call, Save]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    warnings = logging.StreamHandler(sys.stdout)
    logging.getLogger("absl").addHandler(warnings)
    tf.get_logger().addHandler(warnings)
    loaded = tf.saved_model.load(str(path))

    def call(name: str, inputs: dict[str, Array]) -> dict[str, Array]:
        outputs = loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    def save(prefix: Path) -> None:
        np.savez(prefix, **{path: variable.numpy() for path, variable in loaded.exporter.state.items()})

    return call, save


def main() -> None:
    """Trains and writes."""
    runtime, folder = sys.argv[1], Path(sys.argv[2])
    for way in WAYS:
        call, save = {"c": open_with_c, "tensorflow": open_with_tensorflow}[runtime](folder / way / "model")
        with np.load(folder / way / "expected.npz") as arrays:
            x, y = arrays["x"], arrays["y"]
        said: dict[str, float] = {}
        for endpoint in ("train", "evaluate"):
            call("reset_metrics", {})
            for start in range(0, len(x), BATCH):
                logs = call(endpoint, {"inputs": x[start : start + BATCH], "y": y[start : start + BATCH]})
            said |= {f"{endpoint}/{key}": float(value) for key, value in logs.items()}
        [predictions] = call("serving_default", {"inputs": x}).values()
        np.save(folder / way / f"{runtime}.npy", predictions)
        save(folder / way / runtime)
        (folder / way / f"{runtime}.json").write_text(json.dumps(said))
    # TensorFlow itself imports Keras.
    foreign = ["exporter", "interoperability.training", *(["tensorflow", "keras"] if runtime == "c" else [])]
    print(*(module for module in foreign if module in sys.modules))


if __name__ == "__main__":
    main()
