"""tf2onnx's command, and ONNX Runtime."""

import sys
from pathlib import Path

import onnx
import onnxruntime
import onnxruntime_extensions
import tf2onnx.convert

from ..cases import CASES, SENTENCES, Array, Case, Endpoint
from . import Ways


def open_endpoint(folder: Path, case: Case) -> Endpoint:
    return _run(_convert(folder, case), case)


def open_with_extensions(folder: Path, case: Case) -> Endpoint:
    """Converts text operations to those of onnxruntime-extensions, as they are."""
    return _run(_set_locale(_convert(folder, case, "--extra_opset", "ai.onnx.contrib:1")), case)


def open_with_extensions_mended(folder: Path, case: Case) -> Endpoint:
    """The same, with TensorFlow's meaning of a split without a separator put back."""
    model = _set_locale(_convert(folder, case, "--extra_opset", "ai.onnx.contrib:1"))
    helper, kinds = onnx.helper, onnx.TensorProto
    model.graph.initializer.extend(
        [
            helper.make_tensor("separator", kinds.STRING, [1], [b" "]),
            helper.make_tensor("skip_empty", kinds.BOOL, [1], [True]),
        ]
    )
    for node in model.graph.node:
        if node.op_type == "StringSplit":
            node.input[1:] = ["separator", "skip_empty"]
    return _run(model, case)


def _convert(folder: Path, case: Case, *arguments: str) -> onnx.ModelProto:
    target = folder / f"{case.identity}.onnx"
    places = ["--saved-model", str(folder / case.artifact), "--output", str(target)]
    choice = ["--tag", "serve", "--signature_def", case.endpoint, "--opset", "18"]
    sys.argv = ["tf2onnx.convert", *places, *choice, *arguments]  # the command's own, in one process for all
    tf2onnx.convert.main()
    return onnx.load(target)


def _set_locale(model: onnx.ModelProto) -> onnx.ModelProto:
    """Lets lower case be that of a locale that every machine has; without it, it is that of American English."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    return model


def _run(model: onnx.ModelProto, case: Case) -> Endpoint:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def call(inputs: Array) -> Array:
        given = inputs.astype(object) if inputs.dtype.kind == "U" else inputs
        outputs: Array
        [outputs] = session.run([case.output], {case.input: given})
        return outputs

    return call


WAYS: Ways = {
    "onnx": (open_endpoint, CASES),
    "onnx_extensions": (open_with_extensions, (SENTENCES,)),
    "onnx_extensions_mended": (open_with_extensions_mended, (SENTENCES,)),
}
