"""Code of the user's that fails, wherever the export runs it: one error, which names the line."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import compose
from exporter.cli.main import run_alone
from exporter.config import JobConfig
from exporter.errors import ExporterError, ProofError
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession

MODULE = """
import keras
import sys

class Lazy(keras.Model):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.dense = keras.layers.Dense(2)

    def build(self, shape):  # lazy build
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)

@keras.saving.register_keras_serializable("own_code")
class Small(keras.layers.Layer):
    def call(self, inputs):
        if inputs.shape[0] is None or inputs.shape[0] > 2:
            raise ValueError("at most two")
        return inputs

@keras.saving.register_keras_serializable("own_code")
class Secretive(keras.layers.Layer):
    def get_config(self):
        raise ValueError("no config")

    def call(self, inputs):
        return inputs

@keras.saving.register_keras_serializable("own_code")
class Shy(keras.layers.Layer):
    def call(self, inputs):
        if not isinstance(inputs, keras.KerasTensor):
            raise ValueError("not here")
        return inputs

class Numbers:
    @property
    def shape(self):
        raise ValueError("no shape")

def make(*layers, batch=None):
    inputs = keras.Input((3,), batch_size=batch)
    outputs = inputs
    for layer in (*layers, keras.layers.Dense(2)):
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)

def unbuilt():
    return keras.Sequential([keras.layers.Dense(2)])

def lazy():
    model = Lazy()
    model.build((None, 3))
    return model

def fail(depth=2):
    if depth == 0:
        raise KeyError("missing")
    fail(depth - 1)

def chained():
    try:
        fail()
    except KeyError as error:
        raise RuntimeError("no words") from error

def ends():
    sys.exit("bye")

def nothing():
    make()

def listed():
    return [make()]

def a_class():
    return Lazy

def small():
    return make(Small(), batch=2)

def secretive():
    return make(Secretive())

def shy():
    return make(Shy())

def bad_loss(expected, answer):
    raise ValueError("broken loss")

READY = []

@keras.saving.register_keras_serializable("own_code")
class Prepared(keras.layers.Layer):
    def call(self, inputs):
        if not READY:
            raise ValueError("not prepared")
        return inputs

def prepared():
    READY.append(True)
    return make(Prepared())

def yields():
    yield {"x": [[1.0, 2.0, 3.0]]}
    raise ValueError("no more data")

def plain():
    return make()

def trained():
    model = make()
    model.compile("sgd", bad_loss)
    return model
"""
BROKEN = "import keras\ndef build(): ...\nkeras.no_such_name\n"
IMPORTING = "import unreadable_code\ndef build(): ...\n"


def find_place(text: str) -> str:
    lines = MODULE.splitlines()
    number = next(number for number, line in enumerate(lines) if text in line)
    name = next(line for line in reversed(lines[: number + 1]) if line.lstrip().startswith("def "))
    return f"own_code.py:{number + 1} in {name.split('def ')[1].split('(')[0]}"


@pytest.fixture(scope="module")
def session() -> Iterator[ExportSession]:
    with ExportSession() as session:
        yield session


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_code.py").write_text(MODULE)
    (tmp_path / "broken_code.py").write_text(BROKEN)
    (tmp_path / "importing_code.py").write_text(IMPORTING)
    (tmp_path / "unreadable_code.py").write_text("def build(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_code", "broken_code", "importing_code", "unreadable_code"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


SEEDS = itertools.count()  # a session builds a model with another seed anew


def prepare(target: str, *overrides: str) -> JobConfig:
    given = ["model=custom", f"model._target_={target}", "filepath=out/m", f"seed={next(SEEDS)}"]
    return compose(overrides=[*given, *overrides])


CASES = [
    pytest.param(
        "own_code.unbuilt",
        f"({find_place('def unbuilt')}) returned the model 'sequential', which is not built: it has no weights yet.",
        id="unbuilt",
    ),
    pytest.param(
        "own_code.lazy",
        f"The model 'lazy' ({find_place('# lazy build')}) was not built as a whole: its call makes lazy/dense/kernel",
        id="built-without-weights",
    ),
    pytest.param("own_code.fail", f"own_code.fail raised KeyError: 'missing' ({find_place('KeyError(')})", id="raises"),
    pytest.param(
        "own_code.chained",
        f"own_code.chained raised RuntimeError: no words ({find_place('RuntimeError(')}); "
        f"its cause: KeyError: 'missing' ({find_place('KeyError(')})",
        id="chained",
    ),
    pytest.param(
        "own_code.ends", f"ended the process: SystemExit: bye ({find_place('sys.exit(')})", id="ends-the-process"
    ),
    pytest.param("own_code.nothing", f"({find_place('def nothing')}) returned None.", id="none"),
    pytest.param("own_code.listed", f"({find_place('def listed')}) returned an object of builtins.list.", id="list"),
    pytest.param("own_code.a_class", f"({find_place('def a_class')}) returned the class own_code.Lazy.", id="class"),
    pytest.param("own_code.small", f"ValueError: at most two ({find_place('at most two')})", id="traced"),
    pytest.param("own_code.shy", f"ValueError: not here ({find_place('not here')})", id="traced-anywhere"),
    pytest.param("broken_code.build", "broken_code raised AttributeError: module 'keras'", id="import"),
    pytest.param(
        "importing_code.build",
        "importing_code raised SyntaxError: invalid syntax (unreadable_code.py:1)",
        id="syntax",
    ),
]


@pytest.mark.parametrize(("target", "told"), CASES)
@pytest.mark.parametrize("mode", ["none", "full"])
def test_the_line_is_named(target: str, told: str, mode: str, session: ExportSession, directory: Path) -> None:
    with pytest.raises(ExporterError) as caught:
        run_export(prepare(target, f"verify={mode}"), session=session)
    text = str(caught.value)
    assert told in text
    assert len(text) < 600
    assert not [word for word in ("unexpected", "could not be called", "not the same model") if word in text]
    assert not list(directory.glob("out/*"))


def test_a_model_that_is_built_by_its_call_is_refused_in_every_format(session: ExportSession) -> None:
    with pytest.raises(ExporterError, match=r"was not built as a whole") as caught:
        run_export(prepare("own_code.lazy", "save_format=keras"), session=session)
    assert find_place("# lazy build") in str(caught.value)


def test_calling_it_once_mends_it(session: ExportSession, directory: Path) -> None:
    (directory / "mended_code.py").write_text(
        "import keras, own_code\ndef build():\n    model = own_code.lazy()\n"
        "    model(keras.ops.zeros((1, 3)))\n    return model\n"
    )
    assert run_export(prepare("mended_code.build"), session=session).status.value == "proven"


def test_a_configuration_that_cannot_be_made_names_the_line(session: ExportSession) -> None:
    with pytest.raises(ExporterError) as caught:
        run_export(prepare("own_code.secretive", "save_format=keras", "verify=none"), session=session)
    assert f"It came from ValueError: no config ({find_place('no config')})." in str(caught.value)


def test_a_loss_that_fails_leaves_the_step_unproven_and_names_the_line(session: ExportSession) -> None:
    receipt = run_export(prepare("own_code.trained"), session=session)
    [step] = [each for each in receipt.left_out if each.what == "proof of a training step"]
    assert f"ValueError: broken loss ({find_place('broken loss')})" in step.why


def test_code_that_fails_in_another_process_is_no_other_model(session: ExportSession, directory: Path) -> None:
    with pytest.raises(ProofError) as caught:
        run_export(prepare("own_code.prepared", "save_format=keras", "filepath=out/m.keras"), session=session)
    first, *others = str(caught.value).splitlines()
    assert first.startswith(
        "The artifact that was written cannot be proven, since code of the model's own fails in a new process: "
    )
    # The process found the module where the first test had written it.
    assert "ValueError: not prepared (" in others[0]
    assert f"/{find_place('not prepared')})" in others[0]
    assert "Please report it" not in others[-1]
    assert not list(directory.glob("out/*"))


def test_data_that_fails_names_the_line(session: ExportSession) -> None:
    data = "calibration.data={_target_: own_code.yields}"
    with pytest.raises(ExporterError) as caught:
        run_export(prepare("own_code.plain", "save_format=litert", "quantize=int8", data), session=session)
    assert str(caught.value) == (
        f"Code of your own failed, and nothing was published: ValueError: no more data ({find_place('no more data')})"
    )


def test_the_command_line_says_where_the_traceback_is(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_alone(lambda: prepare("own_code.fail", "verify=none"), directory) == 3
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"exporter: own_code.fail raised KeyError: 'missing' ({find_place('KeyError(')})",
        f"  the whole traceback is in {directory / 'exporter.log'}",
    ]
