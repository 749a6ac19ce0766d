"""TensorFlow's converter for LiteRT, and LiteRT's interpreter."""

from pathlib import Path

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from ..cases import CASES, DIGITS, SENTENCES, STOCK, Array, Case, Endpoint
from . import Ways


def open_endpoint(folder: Path, case: Case) -> Endpoint:
    return _run(_make_converter(folder, case).convert(), case)


def open_all_endpoints(folder: Path, case: Case) -> Endpoint:
    return _run(tf.lite.TFLiteConverter.from_saved_model(str(folder / case.artifact)).convert(), case)


def open_with_select_ops(folder: Path, case: Case) -> Endpoint:
    converter = _make_converter(folder, case)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    return _run(converter.convert(), case)


def _make_converter(folder: Path, case: Case) -> tf.lite.TFLiteConverter:
    return tf.lite.TFLiteConverter.from_saved_model(str(folder / case.artifact), signature_keys=[case.endpoint])


def _run(content: bytes, case: Case) -> Endpoint:
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(case.endpoint)

    def call(inputs: Array) -> Array:
        # LiteRT takes strings as bytes of one length each.
        outputs: Array = runner(**{case.input: inputs.astype("S") if inputs.dtype.kind == "U" else inputs})[case.output]
        return outputs

    return call


WAYS: Ways = {
    "litert": (open_endpoint, CASES),
    "litert_all": (open_all_endpoints, (DIGITS,)),
    "litert_select_ops": (open_with_select_ops, (SENTENCES,)),
    "litert_stock": (open_endpoint, (STOCK,)),
}
