"""One sample of the benchmark: what one process does, and the figures that it prints."""

import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

Figures = dict[str, float]

SUFFIXES = {"h5": ".h5", "keras": ".keras"}
# The default run, as that of a first user is; and one epoch of it, where there are several of them.
_RUN = ("-m", "exporter")
_SHORT_RUN = (*_RUN, "model.epochs=1")
# A model of 155 layers that nothing is trained of: all of its time is that of tracing, writing and proving.
_LARGER_RUN = (*_RUN, "model=application", "model.name=MobileNetV2", "model.weights=null")
_STARTS = {"help": ("--help",), "cfg": ("--cfg", "job"), "fault": ("no_such_key=1",)}
# The least that has a schema and a folder of YAML, as ours has them.
_BARE = """from dataclasses import dataclass
import hydra
from hydra.core.config_store import ConfigStore

@dataclass
class Config:
    answer: int = 42

ConfigStore.instance().store(name="schema", node=Config)

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config): print(config)
main()
"""
# How a converted file is called: by Keras, and by us.
_CONVERTED = (
    {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"},
    {"litert": ".tflite", "onnx": ".onnx", "openvino": ""},
)
_CHUNK = memoryview(bytes(1 << 24))
_BARE_YAML = "defaults: [schema, _self_]\nanswer: 42\n"


def build_model(name: str, keras: Any) -> Any:
    """Builds one of the models with Keras 3 or with tf_keras, with Adam and its slots.

    Args:
        name: `digits`, `mobilenet96`, `mobilenet`, `resnet50`, `transformer`, `sequential<layers>`, or
            `dense<layers>` with an optional `x<width>`.
        keras: The module.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # Keras goes down a model's layers by recursion when it is made
    if name == "digits":
        from exporter.sources import digits

        return digits(epochs=1)
    if name == "mobilenet96":
        return _build_small_mobilenet(keras)
    if name == "mobilenet":
        model = keras.applications.MobileNetV2(weights=None)
    elif name == "resnet50":
        model = keras.applications.ResNet50(weights=None)
    elif name == "transformer":
        model = _build_transformer(keras, blocks=12, width=256, heads=4, length=128, words=8192)
    elif name.startswith("sequential"):
        dense = (keras.layers.Dense(64) for _ in range(int(name.removeprefix("sequential"))))
        model = keras.Sequential([keras.Input((64,)), *dense])
    else:
        layers, _, width = name.removeprefix("dense").partition("x")
        model = _build_dense(keras, layers=int(layers), width=int(width or 64))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    sys.setrecursionlimit(limit)
    return model


def _build_small_mobilenet(keras: Any) -> Any:
    """Builds a MobileNetV2 that tells pictures from each other, though nothing was trained of it."""
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(_draw_inputs(model), training=True)  # the statistics are now those of the pictures
    return model


def _draw_inputs(model: Any) -> Any:
    import numpy as np

    return np.random.default_rng(0).normal(size=(8, *model.inputs[0].shape[1:])).astype("float32")


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
        hidden = keras.layers.LayerNormalization()(keras.layers.Add()([hidden, attended]))
        wide = keras.layers.Dense(4 * width, activation="relu")(hidden)
        hidden = keras.layers.LayerNormalization()(keras.layers.Add()([hidden, keras.layers.Dense(width)(wide)]))
    return keras.Model(inputs, keras.layers.Dense(words // 64)(hidden))


def _build_small(keras: Any) -> Any:
    """Builds the model with which a process is warmed up."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _import_keras(peer: str) -> Any:
    if peer.startswith("tf_keras"):
        import tf_keras as keras
    else:
        import keras
    return keras


def _name_artifact(peer: str, folder: Path, stem: str) -> Path:
    return folder / f"{stem}{SUFFIXES.get(peer.rpartition('-')[2], '')}"


def _make_save(peer: str) -> Callable[[Any, Path], Any]:
    import tensorflow as tf

    import exporter

    def write_raw(model: Any, path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for variable in _list_variables(model):
                value = memoryview(variable.value.value())  # TensorFlow's own memory, not a copy of it
                file.write(value.cast("B") if value.shape else value.tobytes())

    saves: dict[str, Callable[[Any, Path], Any]] = {
        "exporter-tf": lambda model, path: exporter.save_model(model, path, save_format="tf"),
        "exporter-h5": exporter.save_model,
        "exporter-keras": exporter.save_model,
        "exporter-weights-h5": exporter.save_model,
        "keras-h5": lambda model, path: model.save(path),
        "keras-keras": lambda model, path: model.save(path),
        "keras-export": lambda model, path: model.export(path, verbose=False),
        "saved_model.save": tf.saved_model.save,
        "tf_keras-tf": lambda model, path: model.save(path, save_format="tf"),
        "tf_keras-h5": lambda model, path: model.save(path, save_format="h5"),
        "raw": write_raw,
    }
    return saves[peer]


def _make_load(peer: str) -> Callable[[Path], Any]:
    import exporter

    if peer.startswith("exporter"):
        return lambda path: exporter.load_model(path, compile="weights" not in peer)
    keras = _import_keras(peer)
    # The stock reader gives an optimizer from HDF5 no slots and then fails on them: it loads the weights alone.
    return lambda path: keras.models.load_model(path, compile=peer != "keras-h5")


def _list_variables(model: Any) -> list[Any]:
    listed = model.optimizer.variables
    known = {id(variable) for variable in model.variables}
    slots = listed() if callable(listed) else listed
    return [*model.variables, *(variable for variable in slots if id(variable) not in known)]


def sample_save(model_name: str, peer: str, folder: Path) -> Figures:
    """Times one save until everything is on the disk."""
    keras = _import_keras(peer)
    model = build_model(model_name, keras)
    sizes = [int(variable.numpy().nbytes) for variable in _list_variables(model)]
    save = _make_save(peer)
    save(_build_small(keras), _name_artifact(peer, folder, "warm"))  # first calls are the process's, not the save's
    path = _name_artifact(peer, folder, "model")
    _use_page_cache(folder, sum(sizes))

    def act() -> None:
        save(model, path)
        _sync(path)

    figures = _measure(act)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
    graph = path / "saved_model.pb"
    return {
        **figures,
        "bytes": float(sum(each.stat().st_size for each in files)),
        "graph": float(graph.stat().st_size) if graph.is_file() else 0.0,
        "state": float(sum(sizes)),
        "largest": float(max(sizes)),
    }


def sample_load(model_name: str, peer: str, folder: Path) -> Figures:
    """Times one load; the artifact is written by another process before."""
    keras = _import_keras(peer)
    path = _name_artifact(peer, folder, "model")
    if not path.exists():
        save = _make_save(peer)
        save(_build_small(keras), _name_artifact(peer, folder, "warm"))
        save(build_model(model_name, keras), path)
        return {}
    load = _make_load(peer)
    load(_name_artifact(peer, folder, "warm"))
    return _measure(lambda: load(path))


def sample_deploy(case: str, peer: str, folder: Path) -> Figures:
    """Times the first conversion of a process that has a model, with whatever it has to import or to start for that."""
    import keras
    import numpy as np

    model_name, save_format = case.split()
    keras.utils.set_random_seed(0)
    model = build_model(model_name, keras)
    path = folder / f"model{_CONVERTED[peer.startswith('exporter')][save_format]}"
    with ExitStack() as stack:
        convert = _make_conversion(peer, save_format, stack)

        def act() -> None:
            convert(model, path)
            _sync(path)

        figures = _measure(act)
    files = [each for each in folder.rglob("*") if each.suffix in (".tflite", ".onnx", ".xml", ".bin")]
    inputs = _draw_inputs(model)
    expected = model.predict(inputs, verbose=0)
    difference = float(np.abs(_ask_runtime(save_format, files, inputs) - expected).max())
    return {**figures, "bytes": float(sum(each.stat().st_size for each in files)), "difference": difference}


def _make_conversion(peer: str, save_format: str, stack: ExitStack) -> Callable[[Any, Path], Any]:
    """Makes what converts a model, as far as it is there before there is a model."""
    import tensorflow as tf

    import exporter
    from exporter.saving.formats import FORMATS
    from exporter.saving.formats.deployed import DeployedFormat
    from exporter.saving.requests import SaveRequest

    def convert_by_hand(model: Any, path: Path) -> None:
        import tf2onnx

        takes = [tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name="pixels")]
        compute = tf.function(lambda pixels: model(pixels, training=False), input_signature=takes)
        tf2onnx.convert.from_function(compute, takes, opset=18, output_path=str(path))

    if peer == "exporter":
        return lambda model, path: exporter.save_model(model, path, save_format=save_format)
    if peer == "keras":
        return lambda model, path: model.export(str(path), format=save_format, verbose=False)
    if peer == "tf2onnx":
        return convert_by_hand
    # As an export does it: the converter has started while TensorFlow did, and the model was built.
    chosen = FORMATS[save_format]
    assert isinstance(chosen, DeployedFormat)
    process = stack.enter_context(chosen.start_converter())
    process.begin()
    process.ask("convert", None)  # it says that nothing was asked, as soon as it has imported everything
    return lambda model, path: chosen.write(SaveRequest(model, path, save_format, converter=process))


def _ask_runtime(save_format: str, files: Sequence[Path], inputs: Any) -> Any:
    """Asks a converted model, whoever converted it, with its runtime."""
    import numpy as np

    [file] = [str(each) for each in files if each.suffix != ".bin"]
    match save_format:
        case "litert":
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(file)
            [name] = interpreter.get_signature_list()["serving_default"]["inputs"]
            [outputs] = interpreter.get_signature_runner("serving_default")(**{name: inputs}).values()
        case "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(file)
            [outputs] = session.run(None, {session.get_inputs()[0].name: inputs})
        case _:
            import openvino

            exact = {"INFERENCE_PRECISION_HINT": "f32"}  # it computes in bfloat16 where the processor is faster at that
            [outputs] = openvino.Core().compile_model(file, "CPU", exact)([inputs]).values()
    return np.asarray(outputs)


def sample_start(case: str, peer: str, folder: Path) -> Figures:
    """Times the whole process of a command that runs no job."""
    if peer == "bare-hydra":
        application = folder / "application.py"
        application.write_text(_BARE)
        (folder / "conf").mkdir()
        (folder / "conf" / "config.yaml").write_text(_BARE_YAML)
        command = [str(application)]
    else:
        command = ["-m", "exporter"]
    return _measure_command([*command, *_STARTS[case]], folder, expected=1 if case == "fault" else 0)


def sample_run(case: str, peer: str, folder: Path) -> Figures:
    """Times the whole process of a default run with its proof or without, or of a sweep or its single runs."""
    commands: dict[tuple[str, str], list[tuple[str, ...]]] = {
        ("proof", "exporter"): [_RUN],
        ("proof", "without-proof"): [(*_RUN, "verify=none")],
        ("proof of MobileNetV2", "exporter"): [_LARGER_RUN],
        ("proof of MobileNetV2", "without-proof"): [(*_LARGER_RUN, "verify=none")],
        ("sweep", "exporter"): [(*_SHORT_RUN, "-m", "save_format=tf,h5,keras")],
        ("sweep", "single-runs"): [(*_SHORT_RUN, f"save_format={each}") for each in ("tf", "h5", "keras")],
    }
    taken = [_measure_command(command, folder) for command in commands[case, peer]]
    return {name: sum(each[name] for each in taken) for name in taken[0]}


def _measure_command(arguments: Sequence[str], folder: Path, expected: int = 0) -> Figures:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if (done.returncode != 0) != (expected != 0):
        raise SystemExit(f"{shlex.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "extra_memory": 0.0}


def _measure(act: Callable[[], Any]) -> Figures:
    before = _read_memory()
    with _Peak() as peak:
        started, spent = time.perf_counter(), _measure_processor()
        act()
        seconds, cpu = time.perf_counter() - started, _measure_processor() - spent
    return {"seconds": seconds, "cpu_seconds": cpu, "extra_memory": peak.value - before}


def _measure_processor() -> float:
    """Returns the seconds of processor time that this process and those that it started and ended have taken."""
    return sum(os.times()[:4])


def _use_page_cache(folder: Path, size: int) -> None:
    """Writes so many bytes and drops them.

    A virtual machine takes several times longer for memory that it has given back to its host, and whether a save
    meets such memory depends on what ran before it.
    """
    path = folder / "dropped"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // _CHUNK.nbytes + 1):
            file.write(_CHUNK)
    path.unlink()


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _read_memory() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the memory of a process")


class _Peak:
    """The highest memory of the process, looked at every five milliseconds."""

    def __enter__(self) -> "_Peak":
        self.value = _read_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.value = max(self.value, _read_memory())

    def __exit__(self, *details: object) -> None:
        self._done.set()
        self._thread.join()


SAMPLES: dict[str, Callable[[str, str, Path], Figures]] = {
    "save": sample_save,
    "load": sample_load,
    "deploy": sample_deploy,
    "start": sample_start,
    "run": sample_run,
}


def main() -> None:
    """Takes the sample that the command line names, and prints its figures."""
    kind, case, peer, folder = sys.argv[1:]
    print(json.dumps(SAMPLES[kind](case, peer, Path(folder))))


if __name__ == "__main__":
    main()
