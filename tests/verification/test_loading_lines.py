"""The lines of a summary that load an artifact work as they stand, in a process that knows nothing of the model."""

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from interpreter import Interpreter

import exporter.exporting.job
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Loading
from exporter.artifacts.summary import print_summary
from exporter.config import ExportConfig, VerifyConfig, VerifyMode
from exporter.exporting.session import ExportSession
from exporter.text.page import LABEL_WIDTH

MODULE = """
import keras


class Gate(keras.layers.Layer):
    def build(self, shape):
        self.gate = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="gate")

    def call(self, inputs):
        return inputs * self.gate


def bend(x):
    return keras.ops.tanh(x) + x


def miss(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


class Bounded(keras.constraints.Constraint):
    def __call__(self, w):
        return keras.ops.clip(w, -1.0, 1.0)


class Slow(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01

    def get_config(self):
        return {}


class Largest(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(keras.ops.max(y_pred))


class Outer:
    class Inner(keras.layers.Dense):
        pass


@keras.saving.register_keras_serializable(package="lines")
class Known(Gate):
    pass
"""

THIRD_PARTY = """
import keras


@keras.saving.register_keras_serializable(package="third")
class Third(keras.layers.Dense):
    pass
"""

FORMATS = ("tf", "h5", "keras")
SUFFIXES = {"tf": "", "h5": ".h5", "keras": ".keras"}


# One process writes them and proves them, and one runs the lines.
pytestmark = pytest.mark.xdist_group("loading-lines")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Modules that another process can import, if it is told where they are."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_lines.py").write_text(MODULE)
    package = folder / "third_lines"
    package.mkdir()
    (package / "__init__.py").write_text("from third_lines._inner import Third\n")
    (package / "_inner.py").write_text(THIRD_PARTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        yield importlib.import_module("own_lines")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_lines", "third_lines")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def session(module: Any) -> Iterator[ExportSession]:
    """What the exports share; it can import the modules."""
    with ExportSession() as shared:
        yield shared


@pytest.fixture(scope="module")
def interpreter(module: Any) -> Iterator[Interpreter]:
    """What the lines run in; it can import the modules."""
    with Interpreter() as shared:
        yield shared


def make_plain(module: Any) -> Any:
    return compiled()


def make_lambda(module: Any) -> Any:
    return compiled(keras.layers.Lambda(lambda x: 2.0 * x + 1.0))


def make_unregistered(module: Any) -> Any:
    return compiled(module.Gate(), keras.layers.Dense(3, activation=module.bend), loss=module.miss)


def make_parts(module: Any) -> Any:
    model = compiled(keras.layers.Dense(3, kernel_constraint=module.Bounded()))
    model.compile(keras.optimizers.Adam(module.Slow()), "mean_squared_error", metrics=[module.Largest(name="largest")])
    return model


def make_nested(module: Any) -> Any:
    return compiled(module.Outer.Inner(3))


def make_registered(module: Any) -> Any:
    return compiled(module.Known())


def make_third_party(module: Any) -> Any:
    return compiled(importlib.import_module("third_lines").Third(3))


def compiled(*layers: Any, loss: Any = "mean_squared_error") -> Any:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])
    model.compile("adam", loss)
    return model


def export(session: ExportSession, model: Any, path: Path, save_format: str, **settings: Any) -> Receipt:
    config = ExportConfig(
        model=model,
        filepath=str(path.with_suffix(SUFFIXES[save_format])),
        save_format=save_format,
        **settings,
    )
    return exporter.exporting.job.run_export(config, session=session)


def list_programs(receipt: Receipt) -> dict[str, str]:
    """Reads the lines of the summary, by their label."""
    text = io.StringIO()
    print_summary(receipt, Path("receipt.json"), text)
    programs: dict[str, str] = {}
    label = ""
    for line in text.getvalue().splitlines():
        label = line[:LABEL_WIDTH].strip() or label
        programs[label] = f"{programs.get(label, '')}{line[LABEL_WIDTH:]}\n"
    return programs


def run(interpreter: Interpreter, program: str, folder: Path) -> Any:
    """Runs it in a new process, and returns what the model that it loaded answers."""
    answer = folder / "answer.npy"
    ask = f"import numpy\nnumpy.save({str(answer)!r}, model.predict(numpy.ones((3, 4), 'float32'), verbose=0))"
    interpreter.run(program + ask, folder)
    return np.load(answer)


LINES = "own_lines"
CASES = {
    "plain": (make_plain, Loading()),
    "lambda": (make_lambda, Loading(safe_mode=False)),
    "not registered": (
        make_unregistered,
        Loading(
            imports=(LINES,), custom_objects={"Gate": f"{LINES}.Gate", "bend": f"{LINES}.bend", "miss": f"{LINES}.miss"}
        ),
    ),
    "parts of layers and of the compilation": (
        make_parts,
        Loading(
            imports=(LINES,),
            custom_objects={"Bounded": f"{LINES}.Bounded", "Slow": f"{LINES}.Slow", "Largest": f"{LINES}.Largest"},
        ),
    ),
    "inside a class": (make_nested, Loading(imports=(LINES,), custom_objects={"Inner": f"{LINES}.Outer.Inner"})),
    "registered": (make_registered, Loading(imports=(LINES,))),
    "third-party": (make_third_party, Loading(imports=("third_lines",))),
}


# What the lines say does not depend on the format, and what is loaded by them does: a lambda, and a class by its name.
EVERYWHERE = ("plain", "lambda", "not registered")
LOADED = [(case, save_format) for case in CASES for save_format in (FORMATS if case in EVERYWHERE else ("keras",))]


@pytest.mark.parametrize(("case", "save_format"), LOADED, ids=[f"{case}-{each}" for case, each in LOADED])
def test_the_lines_of_the_summary_load_the_model(
    case: str, save_format: str, module: Any, session: ExportSession, interpreter: Interpreter, tmp_path: Path
) -> None:
    make, loading = CASES[case]
    model = make(module)
    receipt = export(session, model, tmp_path / "model", save_format)
    assert receipt.loading == loading
    assert Receipt.from_json(receipt.to_json()).loading == loading
    expected = model.predict(np.ones((3, 4), "float32"), verbose=0)
    programs = list_programs(receipt)
    assert "load" in programs
    for program in [programs[label] for label in ("load", "or") if label in programs]:
        np.testing.assert_allclose(run(interpreter, program, tmp_path), expected, rtol=1e-6)


def test_the_lines_of_the_summary_call_an_endpoint(
    session: ExportSession, interpreter: Interpreter, tmp_path: Path
) -> None:
    model = compiled()
    lines = list_programs(export(session, model, tmp_path / "model", "tf"))["serve"].partition("docker")[0]
    program = (
        f"{lines}class model:\n"
        "    def predict(rows, verbose):\n"
        "        [answer] = endpoints['serving_default'](tf.constant(rows)).values()\n"
        "        return answer.numpy()\n"
    )
    expected = model.predict(np.ones((3, 4), "float32"), verbose=0)
    np.testing.assert_allclose(run(interpreter, program, tmp_path), expected, rtol=1e-6)


def test_the_lines_are_known_without_a_proof(
    module: Any, session: ExportSession, interpreter: Interpreter, tmp_path: Path
) -> None:
    model = make_unregistered(module)
    receipt = export(session, model, tmp_path / "model", "keras", verify=VerifyConfig(mode=VerifyMode.NONE))
    assert receipt.loading == CASES["not registered"][1]
    np.testing.assert_allclose(
        run(interpreter, list_programs(receipt)["load"], tmp_path),
        model.predict(np.ones((3, 4), "float32"), verbose=0),
        rtol=1e-6,
    )


def test_what_a_main_script_defines_is_not_asked_for(interpreter: Interpreter, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import exporter, keras, numpy\n"
        "from exporter.artifacts.summary import print_summary\n"
        "class Own(keras.layers.Layer):\n"
        "    def call(self, inputs):\n"
        "        return inputs * 2.0\n"
        "model = keras.Sequential([keras.Input((4,)), Own(), keras.layers.Dense(2)])\n"
        "receipt = exporter.export(model, 'out/model')\n"
        "open('receipt.json', 'w').write(receipt.to_json())\n"
        "numpy.save('expected.npy', model.predict(numpy.ones((3, 4), 'float32'), verbose=0))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    receipt = Receipt.from_json((tmp_path / "receipt.json").read_text())
    assert receipt.loading == Loading()
    answer = run(interpreter, list_programs(receipt)["load"], tmp_path)
    np.testing.assert_allclose(answer, np.load(tmp_path / "expected.npy"), rtol=1e-6)


def test_a_receipt_of_a_former_version_has_none() -> None:
    assert Loading().write_lines("a b") == ["import exporter", "model = exporter.load_model('a b')"]
