"""OpenVINO, which converts and runs; `openvino_tokenizers` teaches it text."""

from pathlib import Path

import openvino

from ..cases import CASES, RECOGNIZE, SENTENCES, TOKEN_IDS, WORDS, Array, Case, Endpoint
from . import Ways


def open_endpoint(folder: Path, case: Case) -> Endpoint:
    return _run(openvino.convert_model(folder / case.artifact), case)


def open_by_name(folder: Path, case: Case) -> Endpoint:
    """Opens an endpoint by the name of its input in the graph."""
    name = f"{case.endpoint}_{case.input}:0"
    return _run(openvino.convert_model(folder / case.artifact, input=name), case)


def open_with_tokenizers(folder: Path, case: Case) -> Endpoint:
    import openvino_tokenizers  # noqa: F401  what it teaches, it teaches the whole process

    return open_endpoint(folder, case)


def open_signature(folder: Path, case: Case) -> Endpoint:
    """Opens what is not `serving_default`, which is all that OpenVINO sees in a directory."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / case.artifact))
    return _run(openvino.convert_model(loaded.signatures[case.endpoint]), case)


def _run(model: openvino.Model, case: Case) -> Endpoint:
    # Otherwise it computes in bfloat16 where the processor can.
    exactly = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", exactly)

    def call(inputs: Array) -> Array:
        outputs: Array = compiled({case.input: inputs})[case.output]
        return outputs

    return call


WAYS: Ways = {
    "openvino": (open_endpoint, tuple(case for case in CASES if case.endpoint == "serving_default")),
    "openvino_by_name": (open_by_name, (RECOGNIZE,)),
    "openvino_tokenizers": (open_with_tokenizers, (SENTENCES, WORDS)),
    "openvino_signature": (open_signature, (RECOGNIZE, TOKEN_IDS)),
}
