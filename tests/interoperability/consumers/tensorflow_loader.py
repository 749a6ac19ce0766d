"""`tf.saved_model.load`."""

from pathlib import Path

import tensorflow as tf

from ..cases import BEST, CASES, Array, Case, Endpoint
from . import Ways

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def open_endpoint(folder: Path, case: Case) -> Endpoint:
    loaded = tf.saved_model.load(str(folder / case.artifact))
    endpoint = loaded.signatures[case.endpoint]

    def call(inputs: Array) -> Array:
        outputs: Array = endpoint(**{case.input: tf.constant(inputs)})[case.output].numpy()
        return outputs

    call.loaded = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return call


WAYS: Ways = {"tensorflow": (open_endpoint, (*CASES, BEST))}
