"""Opens an artifact with what is installed in another environment: `python visitor.py FOLDER`, run by its Python.

The folder holds `request.json` and `questions.npz`; `reply.json` and `answers.npz` are written into it. Nothing of this
package is there, so this file imports none of it, and is written for every Python from 3.7 on.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import zipfile
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

Request = Dict[str, Any]
Facts = Dict[str, Any]
Batch = List[Any]
# Asks one batch; the outputs are in a row where they have no names of their own.
Call = Callable[[Batch], Dict[str, Any]]

# Of the reader, which packages open an artifact: the first of them that is there.
OPENED_BY = {
    "tensorflow": ("tensorflow",),
    "keras": ("keras", "tensorflow"),
    "litert": ("ai_edge_litert", "tensorflow"),
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
}
# The Keras that began to write archives as they are today.
_FIRST = 3
# Of an error, how many characters are told.
_LONGEST = 300
# Before what went wrong, in Keras's own errors.
_CAUSE = "Exception encountered:"
# What stock Keras reads of a directory that holds a model, as the members of a `.keras` file.
TWIN = ("metadata.json", "config.json", "model.weights.h5")


def open_saved_model(request: Request, facts: Facts) -> Dict[str, Call]:
    """Loads a SavedModel with TensorFlow alone."""
    import tensorflow as tf

    loaded = tf.saved_model.load(request["path"], tags=request["tags"])
    # What was loaded lives as long as one of these does.
    return {each["endpoint"]: _serve(tf, loaded, each) for each in request["questions"]}


def _serve(tf: Any, loaded: Any, question: Request) -> Call:
    function = loaded.signatures[question["endpoint"]]
    specs = function.structured_input_signature[1]

    def call(batch: Batch) -> Dict[str, Any]:
        assert loaded is not None
        tensors = {name: _to_tensor(tf, array, specs[name].dtype) for name, array in zip(question["names"], batch)}
        with _Kept([each for each in function.variables if question["moves"] or not each.trainable]):
            return {name: _to_array(tf, value) for name, value in function(**tensors).items()}

    return call


def open_keras(request: Request, facts: Facts) -> Dict[str, Call]:
    """Loads a file with stock Keras, and says what became of its weights and its optimizer's variables."""
    import tensorflow as tf

    try:
        keras = importlib.import_module("keras")
    except ImportError:
        keras = tf.keras
    facts["keras"] = keras.__version__
    if int(keras.__version__.split(".")[0]) < _FIRST and (
        os.path.isdir(request["path"]) or zipfile.is_zipfile(request["path"])
    ):
        raise ValueError(f"Keras {keras.__version__} reads no archives of Keras {_FIRST}")
    objects, facts["absent"] = _import_objects(keras, request["objects"])
    options = {} if request["safe_mode"] else {"safe_mode": False}
    model = keras.models.load_model(_find_archive(request["path"]), custom_objects=objects, **options)
    facts["weights"] = [_digest(variable) for variable in model.weights]
    variables = getattr(getattr(model, "optimizer", None), "variables", ())
    facts["optimizer"] = [_digest(variable) for variable in (variables() if callable(variables) else variables)]
    return {each["endpoint"]: _predict(tf, model, each) for each in request["questions"]}


def _predict(tf: Any, model: Any, question: Request) -> Call:
    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in question["specs"]]

    def predict(*tensors: Any) -> Any:
        return model(*[_build(part, tensors) for part in question["structure"]])

    # As an endpoint is traced: eagerly, other operations are fused, which changes the last digits.
    traced = tf.function(predict, input_signature=specs, autograph=False)

    def call(batch: Batch) -> Dict[str, Any]:
        tensors = [_to_tensor(tf, array, spec.dtype) for array, spec in zip(batch, specs)]
        with _Kept(model.non_trainable_variables):
            try:
                found = traced(*tensors)
            except Exception:  # a model may hold Python that cannot be traced
                found = predict(*tensors)
            return {str(index): _to_array(tf, value) for index, value in enumerate(tf.nest.flatten(found))}

    return call


def _find_archive(path: str) -> str:
    """Gives the file that Keras opens: made of the members that stand in a directory."""
    if not os.path.isdir(path):
        return path
    archive = os.path.join(os.getcwd(), "twin.keras")
    with zipfile.ZipFile(archive, "w") as made:
        for name in TWIN:
            made.write(os.path.join(path, name), name)
    return archive


def _import_objects(keras: Any, objects: List[Dict[str, Any]]) -> Tuple[Dict[str, Any], List[str]]:
    """Imports the model's own classes and functions; names the modules that are not there."""
    found, absent = {}, set()
    for each in objects:
        try:
            value: Any = importlib.import_module(each["module"])
        except ImportError:
            absent.add(each["module"])
            continue
        for part in each["place"].split("."):
            value = getattr(value, part)
        found[each["name"]] = value
    return found, sorted(absent)


def _build(structure: Any, tensors: Any) -> Any:
    """Puts tensors into their places: the structure is nested one-entry mappings of a kind, with positions inside."""
    if isinstance(structure, int):
        return tensors[structure]
    [(kind, items)] = structure.items()
    if kind == "dict":
        return {key: _build(item, tensors) for key, item in items.items()}
    built = [_build(item, tensors) for item in items]
    return tuple(built) if kind == "tuple" else built


def _digest(variable: Any) -> str:
    """Says what a variable holds: its dtype, shape and bytes."""
    array = np.ascontiguousarray(variable.numpy())
    head = f"{array.dtype.name} {list(array.shape)}\n".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def open_litert(request: Request, facts: Facts) -> Dict[str, Call]:
    """Opens a `.tflite` file with LiteRT, or with what TensorFlow has of it."""
    try:
        make = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        make = importlib.import_module("tensorflow").lite.Interpreter
    interpreter = make(model_path=request["path"], num_threads=1)

    def begin(question: Request) -> Call:
        runner = interpreter.get_signature_runner(question["endpoint"])
        return lambda batch: {
            name: np.array(value) for name, value in runner(**dict(zip(question["names"], batch))).items()
        }

    return {each["endpoint"]: begin(each) for each in request["questions"]}


def open_onnx(request: Request, facts: Facts) -> Dict[str, Call]:
    """Opens a file, or one for each endpoint, with ONNX Runtime."""
    import onnxruntime

    path = request["path"]
    files = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    calls = {}
    for file in files:
        if file.endswith(".onnx"):
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            kept = session.get_modelmeta().custom_metadata_map
            calls[kept.get("exporter.endpoint", "serving_default")] = _run(session)
    return {each["endpoint"]: _order(calls[each["endpoint"]], each) for each in request["questions"]}


def _run(session: Any) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    names = [each.name for each in session.get_outputs()]

    def run(given: Dict[str, Any]) -> Dict[str, Any]:
        texts = {name: _decode(array) for name, array in given.items()}
        return dict(zip(names, map(np.asarray, session.run(names, texts))))

    return run


def _order(call: Callable[[Dict[str, Any]], Dict[str, Any]], question: Request) -> Call:
    return lambda batch: call(dict(zip(question["names"], batch)))


def open_openvino(request: Request, facts: Facts) -> Dict[str, Call]:
    """Opens an IR with OpenVINO, on the processor, where it computes in float32."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # else it tells its makers
    import openvino

    core = openvino.Core()

    def begin(question: Request) -> Call:
        file = os.path.join(request["path"], f"{question['endpoint']}.xml")
        compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = {port: port.get_any_name() for port in compiled.outputs}
        taken = {port.get_any_name(): place for place, port in enumerate(compiled.inputs)}

        def call(batch: Batch) -> Dict[str, Any]:
            given = {taken[name]: array for name, array in zip(question["names"], batch) if name in taken}
            found = compiled(given)
            return {names[port]: np.array(found[port]) for port in compiled.outputs}

        return call

    return {each["endpoint"]: begin(each) for each in request["questions"]}


class _Kept:
    """Puts variables back that a call changes."""

    def __init__(self, variables: Any) -> None:
        self._kept = [(variable, variable.numpy()) for variable in variables]

    def __enter__(self) -> None:
        return

    def __exit__(self, *failure: object) -> None:
        for variable, value in self._kept:
            variable.assign(value)


def _to_tensor(tf: Any, array: Any, dtype: Any) -> Any:
    tensor = tf.constant(array)
    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


def _to_array(tf: Any, value: Any) -> Any:
    if isinstance(value, tf.RaggedTensor):
        value = value.to_tensor()
    elif isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    # NumPy's files have no such numbers.
    return (tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value).numpy()


def _decode(array: Any) -> Any:
    return np.char.decode(array, "utf-8").astype(object) if array.dtype.kind == "S" else array


def _encode(array: Any) -> Any:
    """Makes texts what a file of NumPy holds without a pickle."""
    if array.dtype.kind not in "OU":
        return array
    texts = [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
    return np.array(texts, dtype=np.bytes_).reshape(array.shape)


def _find_cause(text: str) -> str:
    """Gives the line that says most: Keras wraps what went wrong in one text after the other."""
    lines = text.strip().splitlines() or [""]
    causes = [line for line in lines if line.startswith(_CAUSE)]
    return (causes[-1][len(_CAUSE) :].strip() if causes else lines[0])[:_LONGEST]


_READERS = {
    "tensorflow": open_saved_model,
    "keras": open_keras,
    "litert": open_litert,
    "onnx": open_onnx,
    "openvino": open_openvino,
}


def _list_versions(reader: str) -> Iterator[Tuple[str, str]]:
    for package in OPENED_BY[reader]:
        module = sys.modules.get(package)
        if module is not None:
            yield package, str(getattr(module, "__version__", ""))


def main(folder: str) -> None:
    """Answers the request in a folder."""
    os.chdir(folder)
    with open("request.json", encoding="utf-8") as file:
        request = json.load(file)
    facts: Facts = {"python": ".".join(map(str, sys.version_info[:3]))}
    answers = {}
    try:
        calls = _READERS[request["reader"]](request, facts)
        facts["opened"] = True
        with np.load("questions.npz", allow_pickle=False) as questions:
            for number, question in enumerate(request["questions"]):
                for index in range(question["batches"]):
                    batch = [questions[f"{number}/{index}/{leaf}"] for leaf in range(len(question["names"]))]
                    for name, array in calls[question["endpoint"]](batch).items():
                        answers[json.dumps([number, index, name])] = _encode(np.asarray(array))
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {_find_cause(str(error))}"
    facts["versions"] = dict(_list_versions(request["reader"]))
    facts["answers"] = list(answers)
    np.savez("answers.npz", **{str(number): array for number, array in enumerate(answers.values())})
    with open("reply.json", "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1])
