"""The arguments of `save_model` and `load_model`: what is taken, what is refused and in which words."""

import contextlib
import hashlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import exporter
from exporter import load_model, save_model
from exporter.saving.state.collecting import collect_state, digest
from exporter.text.showing import describe_value

FORMATS = ["tf", "h5", "keras"]
SUFFIX = {"tf": "", "h5": ".h5", "keras": ".keras"}

by_format = pytest.mark.parametrize("save_format", FORMATS)


def make_model() -> keras.Model:
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((4,), name="features"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, name="scores"),
        ],
        name="tiny",
    )
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 4), "float32"), np.ones((8, 2), "float32"), batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return make_model()


class Subclassed(keras.Model):
    """A model with a layer that is made in its constructor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


keras.saving.register_keras_serializable(package="test_api")(Subclassed)


def make_functional() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(inputs), name="functional")


def make_subclassed() -> keras.Model:
    model = Subclassed(name="subclassed")
    model(np.ones((1, 4), "float32"))
    return model


def describe_tree(path: Path) -> dict[str, str]:
    """Returns every file, link and directory below a path, with the digest of its bytes."""
    found: dict[str, str] = {}
    for entry in sorted(path.rglob("*")):
        name = entry.relative_to(path).as_posix()
        if entry.is_symlink():
            found[name] = f"-> {os.readlink(entry)}"
        else:
            found[name] = "directory" if entry.is_dir() else hashlib.sha256(entry.read_bytes()).hexdigest()
    return found


def count_bytes(path: Path) -> int:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())
    return path.stat().st_size


def describe_model(model: keras.Model) -> dict[str, Any]:
    """Returns what a caller can see of a model: a save must not change any of it."""
    return {
        "name": model.name,
        "config": model.to_json(),
        "compile": None if model._compile_config is None else repr(model._compile_config.config),
        "optimizer": id(model.optimizer),
        "loss": repr(model.loss),
        "state": {path: digest(variable) for path, variable in collect_state(model).items()},
        "variables": [(id(variable), variable.path, variable.trainable) for variable in model.variables],
        "trainable": [layer.trainable for layer in model.layers],
        "losses": len(model.losses),
    }


def refuse(kind: type[exporter.ExporterError], action: Callable[[], object]) -> str:
    """Runs what must be refused, and returns the text."""
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    return str(caught.value)


# Our package, and what the tests hide from Keras.
_IMPORTED = os.pathsep.join([str(Path(exporter.__file__).parents[1]), os.environ["PYTHONPATH"]])


def run_python(program: str, *arguments: str, **environment: str) -> str:
    """Runs a program in a process of its own, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "PYTHONPATH": _IMPORTED, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# `model`


@by_format
@pytest.mark.parametrize("make", [make_model, make_functional, make_subclassed], ids=lambda make: make.__name__[5:])
def test_a_built_model_is_saved_and_comes_back(
    tmp_path: Path, make: Callable[[], keras.Model], save_format: Any
) -> None:
    model = make()
    target = tmp_path / f"model{SUFFIX[save_format]}"
    if make is make_subclassed and save_format == "h5":
        assert refuse(exporter.ModelError, lambda: save_model(model, target)) == (
            "HDF5 cannot hold the subclassed model 'subclassed' (Subclassed): its layout knows the layers of "
            "Sequential and Functional models only, by their order. Save it with save_format='tf' or 'keras'."
        )
        assert os.listdir(tmp_path) == []
        return
    assert save_model(model, target) == target
    assert os.listdir(tmp_path) == [target.name]
    loaded = load_model(target)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    left, right = collect_state(model), collect_state(loaded)
    assert {path: digest(left[path]) for path in left} == {path: digest(right[path]) for path in right}


class Module(tf.Module):
    """Not a model."""


def make_unbuilt() -> list[tuple[str, Any]]:
    return [
        ("sequential without layers", keras.Sequential(name="unbuilt")),
        ("sequential without input", keras.Sequential([keras.layers.Dense(1)], name="unbuilt")),
        ("subclassed", Subclassed(name="unbuilt")),
        ("bare", keras.Model(name="unbuilt")),
    ]


@by_format
@pytest.mark.parametrize("unbuilt", [pytest.param(unbuilt, id=identity) for identity, unbuilt in make_unbuilt()])
def test_an_unbuilt_model_is_refused(tmp_path: Path, unbuilt: keras.Model, save_format: Any) -> None:
    assert refuse(exporter.ModelError, lambda: save_model(unbuilt, tmp_path / "model", save_format=save_format)) == (
        "The model 'unbuilt' is not built: it has no weights yet. Call it on a batch of data, or call "
        "`model.build(input_shape)`, and save it then."
    )
    assert os.listdir(tmp_path) == []


STRANGERS = {
    "None": (None, "`model` must be a keras.Model of Keras 3. Received: builtins.NoneType."),
    "text": ("model.keras", "`model` must be a keras.Model of Keras 3. Received: builtins.str."),
    "class": (
        keras.Sequential,
        "`model` must be a keras.Model, not a class. Received: the class Sequential. Make an instance.",
    ),
    "layer": (
        keras.layers.Dense(1),
        "`model` is a layer, not a keras.Model. Received: keras.src.layers.core.dense.Dense. Put it into one: "
        "keras.Sequential([layer]).",
    ),
    "tf.Module": (
        Module(),
        f"`model` is a TensorFlow object, not a keras.Model. Received: {__name__}.Module. Save a tf.Module with "
        "`tf.saved_model.save`, or put its functions into a keras.Model.",
    ),
    "tf.function": (
        tf.function(lambda x: x),
        "`model` is a TensorFlow object, not a keras.Model. Received: "
        "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function. Save a tf.Module with "
        "`tf.saved_model.save`, or put its functions into a keras.Model.",
    ),
    "tf_keras": (
        tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))]),
        "`model` is a model of Keras 2 (tf_keras), which Keras 3 cannot save. Received: "
        "tf_keras.src.engine.sequential.Sequential. Save it with `model.save('model.h5')` in its own Keras; "
        "Keras 3 opens that file.",
    ),
}


@by_format
@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_no_keras_model_is_refused(tmp_path: Path, stranger: str, save_format: Any) -> None:
    value, text = STRANGERS[stranger]
    assert (
        refuse(exporter.NotAModelError, lambda: save_model(value, tmp_path / "model", save_format=save_format)) == text
    )
    assert issubclass(exporter.NotAModelError, TypeError)
    assert os.listdir(tmp_path) == []


@by_format
def test_a_save_does_not_change_the_model(tmp_path: Path, save_format: Any) -> None:
    model = make_model()
    before = describe_model(model)
    for include_optimizer in (True, False):
        save_model(model, tmp_path / "model", include_optimizer=include_optimizer, save_format=save_format)
        assert describe_model(model) == before


def test_the_formats_can_be_saved_in_one_process_in_any_order(tmp_path: Path) -> None:
    model = make_model()
    formats: list[Any] = ["h5", "keras", "tf", "h5", "keras"]
    for save_format in formats:
        target = save_model(model, tmp_path / f"{save_format}", save_format=save_format)
        loaded = load_model(target)
        assert type(loaded.optimizer) is keras.optimizers.Adam
        assert int(loaded.optimizer.iterations) == 2


# `filepath`


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "with spaces and = signs, 'quotes', [brackets]*",
        "größe-模型-🙂",
        "%d",
        "back\\slash",
        "two\nlines",
        "-dash",
        ".hidden",
        "one/two/three",
        "here/../there",
        "x" * 200,
    ],
)
@by_format
def test_a_path_of_any_kind_is_written(tmp_path: Path, model: keras.Model, name: str, save_format: Any) -> None:
    target = tmp_path / (name + SUFFIX[save_format])
    (tmp_path / "here").mkdir()
    for filepath in (str(target), target):
        assert save_model(model, filepath, save_format=save_format) == target
        assert [entry.name for entry in target.parent.iterdir() if entry.name.startswith(".exporter-")] == []
        np.testing.assert_array_equal(load_model(filepath)(np.ones((1, 4))), model(np.ones((1, 4))))


def test_the_home_directory_can_be_named(tmp_path: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_model(model, "~/models/tiny.keras") == tmp_path / "models" / "tiny.keras"
    assert load_model("~/models/tiny.keras").name == "tiny"


def test_a_relative_path_is_in_the_working_directory(
    tmp_path: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert save_model(model, "model") == Path("model")
    assert save_model(model, "made/model.h5") == Path("made/model.h5")
    assert sorted(os.listdir(tmp_path)) == ["made", "model"]


TOO_LONG = "x" * 256

REFUSED_PATHS: dict[str, tuple[Any, str]] = {
    "None": (None, "`filepath` must be a str, a pathlib.Path or an open h5py.File. Received: None (of type NoneType)."),
    "bytes": (
        b"model",
        "`filepath` must be a str, a pathlib.Path or an open h5py.File. Received: b'model' (of type bytes).",
    ),
    "int": (3, "`filepath` must be a str, a pathlib.Path or an open h5py.File. Received: 3 (of type int)."),
    "empty": ("", "`filepath` must name a file or a directory. Received: ''."),
    "blank": ("  ", "`filepath` must name a file or a directory. Received: '  '."),
    "NUL": ("a\0b", "`filepath` must name a file or a directory. Received: 'a\\x00b'."),
    "surrogate": ("a\udc80", "`filepath` must be text that UTF-8 can encode. Received: 'a\\udc80'."),
    "unknown user": (
        "~nobody-of-this-name/model",
        "`filepath` names a user without a home directory. Received: '~nobody-of-this-name/model'.",
    ),
    "too long": (TOO_LONG, f"`filepath` cannot be used: File name too long. Received: {describe_value(TOO_LONG)}."),
}


@by_format
@pytest.mark.parametrize("refused", REFUSED_PATHS)
def test_what_is_no_path_is_refused(
    tmp_path: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch, refused: str, save_format: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    filepath, text = REFUSED_PATHS[refused]
    assert refuse(exporter.ArgumentError, lambda: save_model(model, filepath, save_format=save_format)) == text
    assert refuse(exporter.ArgumentError, lambda: load_model(filepath)) == text
    assert os.listdir(tmp_path) == []


def test_a_save_goes_to_the_disk(model: keras.Model) -> None:
    assert refuse(exporter.ArgumentError, lambda: save_model(model, "gs://bucket/model")) == (
        "`filepath` must be a local path, not a URL; exporter.export(model, URL) saves to a store. "
        "Received: 'gs://bucket/model'."
    )


@pytest.mark.parametrize("filepath", [".", "..", "/", "./", "model/.."])
def test_a_path_without_a_name_of_its_own_is_refused(
    tmp_path: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch, filepath: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refuse(exporter.ArgumentError, lambda: save_model(model, filepath)) == (
        f"`filepath` must end with a name of the artifact's own. Received: '{Path(filepath)}'."
    )
    assert os.listdir(tmp_path) == []


@by_format
@pytest.mark.parametrize("depth", [1, 3])
def test_a_parent_that_is_a_file_is_refused(tmp_path: Path, model: keras.Model, depth: int, save_format: Any) -> None:
    (tmp_path / "file").write_text("kept")
    target = tmp_path.joinpath("file", *["below"] * depth)
    assert refuse(exporter.ArgumentError, lambda: save_model(model, target, save_format=save_format)) == (
        f"{target} cannot be written: {tmp_path / 'file'} is a file, where a directory is needed. "
        "Choose another `filepath`, or move that file away."
    )
    assert (tmp_path / "file").read_text() == "kept"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_a_directory_where_a_file_goes_is_refused(tmp_path: Path, model: keras.Model, save_format: Any) -> None:
    target = save_model(model, tmp_path / "model")
    before = describe_tree(tmp_path)
    assert refuse(exporter.ArgumentError, lambda: save_model(model, target, save_format=save_format)) == (
        f"{target} is a directory, and save_format='{save_format}' writes one file. Give the name of a file, or save "
        "with save_format='tf'."
    )
    assert describe_tree(tmp_path) == before


def test_a_directory_that_holds_no_model_is_not_replaced(tmp_path: Path, model: keras.Model) -> None:
    for name in ("b", "a", "c", "d", "e", "f", "g"):
        (tmp_path / "home" / name).mkdir(parents=True)
    before = describe_tree(tmp_path)
    target = tmp_path / "home"
    assert refuse(exporter.ArgumentError, lambda: save_model(model, target)) == (
        f"{target} is a directory that holds something else than a model (a, b, c, d, e, and 2 more); replacing it "
        f"would delete that. Give a path of its own, such as {target / 'model'}."
    )
    assert describe_tree(tmp_path) == before


def test_an_empty_directory_is_replaced(tmp_path: Path, model: keras.Model) -> None:
    (tmp_path / "model").mkdir()
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").name == "tiny"


@pytest.mark.parametrize("points_at", ["file", "directory", "nothing"])
@by_format
def test_a_link_is_replaced_and_not_followed(
    tmp_path: Path, model: keras.Model, points_at: str, save_format: Any
) -> None:
    pointed = tmp_path / "pointed"
    if points_at == "file":
        pointed.write_text("kept")
    elif points_at == "directory":
        pointed.mkdir()
        (pointed / "saved_model.pb").write_text("kept")
    before = describe_tree(tmp_path)
    target = tmp_path / f"model{SUFFIX[save_format]}"
    target.symlink_to(pointed)
    save_model(model, target)
    assert not target.is_symlink()
    assert load_model(target).name == "tiny"
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert describe_tree(tmp_path) == before


# An open `h5py.File`


@pytest.mark.parametrize("kind", ["on disk", "in memory", "in a buffer"])
def test_an_open_file_is_written_and_read(tmp_path: Path, model: keras.Model, kind: str) -> None:
    path = tmp_path / "model.h5"
    opened = {
        "on disk": lambda: h5py.File(path, "w"),
        "in memory": lambda: h5py.File(path, "w", driver="core", backing_store=False),
        "in a buffer": lambda: h5py.File(io.BytesIO(), "w"),
    }[kind]()
    with opened as file:
        file["notes/of the caller"] = [1, 2, 3]
        for _ in range(2):  # the second save replaces the model of the first
            assert save_model(model, file) == Path(file.filename)
            loaded = load_model(file)
            left, right = collect_state(model), collect_state(loaded)
            assert {path: digest(left[path]) for path in left} == {path: digest(right[path]) for path in right}
        assert list(file["notes/of the caller"]) == [1, 2, 3]
        assert file.id.valid
    assert path.exists() == (kind == "on disk")


def test_an_open_file_that_holds_a_model_is_kept_without_overwrite(tmp_path: Path, model: keras.Model) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        save_model(model, file, overwrite=False)
        assert refuse(exporter.TargetExistsError, lambda: save_model(model, file, overwrite=False)) == (
            f"The h5py.File '{tmp_path / 'model.h5'}' holds a model and `overwrite` is false. Choose another "
            "`filepath`, or allow it with overwrite=true."
        )
        assert load_model(file).name == "tiny"


def test_a_closed_file_is_refused(tmp_path: Path, model: keras.Model) -> None:
    file = h5py.File(tmp_path / "model.h5", "w")
    file.close()
    assert refuse(exporter.ArgumentError, lambda: save_model(model, file)) == (
        "The h5py.File is closed. Open it with mode 'w' or 'a', and close it after the save."
    )
    assert refuse(exporter.ArgumentError, lambda: load_model(file)) == (
        "The h5py.File is closed. Open it with mode 'r', and close it after the load."
    )


def test_a_file_that_is_open_for_reading_is_refused(tmp_path: Path, model: keras.Model) -> None:
    path = save_model(model, tmp_path / "model.h5")
    before = describe_tree(tmp_path)
    with h5py.File(path, "r") as file:
        assert refuse(exporter.ArgumentError, lambda: save_model(model, file)) == (
            f"The h5py.File '{path}' is open for reading only. Open it with mode 'w' or 'a'."
        )
    assert describe_tree(tmp_path) == before


def test_an_open_file_takes_hdf5_only(tmp_path: Path, model: keras.Model) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        assert refuse(exporter.ArgumentError, lambda: save_model(model, file, save_format="tf")) == (
            "An open h5py.File takes save_format='h5' or None. Received: 'tf'. Give a path to save in another format."
        )
        options = tf.saved_model.SaveOptions()
        assert refuse(exporter.ArgumentError, lambda: save_model(model, file, signatures={}, options=options)) == (
            "`signatures` and `options` belong to a SavedModel: 'h5' has no place for them. Leave them out, or save "
            "with save_format='tf'."
        )
        assert refuse(exporter.ModelError, lambda: save_model(make_subclassed(), file)) == (
            "HDF5 cannot hold the subclassed model 'subclassed' (Subclassed): its layout knows the layers of "
            "Sequential and Functional models only, by their order. Save it with save_format='tf' or 'keras'."
        )
        assert list(file) == []
        group = file.create_group("group")
        assert refuse(exporter.ArgumentError, lambda: save_model(model, group)) == (
            "`filepath` must be a str, a pathlib.Path or an open h5py.File. Received: "
            '<HDF5 group "/group" (0 members)> (of type Group).'
        )


# `overwrite`


@pytest.mark.parametrize(
    ("old", "save_format"),
    [
        *((old, "tf") for old in ("tf", "h5", "keras", "text", "stock directory")),
        *((old, save_format) for old in ("h5", "keras", "text") for save_format in ("h5", "keras")),
    ],
)
def test_overwriting_leaves_nothing_of_the_old(tmp_path: Path, model: keras.Model, old: Any, save_format: Any) -> None:
    target = tmp_path / "target"
    if old == "text":
        target.write_text("old")
    elif old == "stock directory":
        model.save(tmp_path / "stock.keras")
        with zipfile.ZipFile(tmp_path / "stock.keras") as archive:
            archive.extractall(target)
        (tmp_path / "stock.keras").unlink()
    else:
        save_model(make_functional(), target, save_format=old)
    if target.is_dir():
        (target / "assets").mkdir(exist_ok=True)
        (target / "assets" / "stale.txt").write_text("stale")
    for name in ("receipt", "request"):  # an export's, which speak of the old
        (tmp_path / f"target.{name}.json").write_text("stale")
    save_model(model, target, save_format=save_format)
    assert os.listdir(tmp_path) == ["target"]
    save_model(model, tmp_path / "fresh", save_format=save_format)
    if save_format == "tf":
        assert sorted(describe_tree(target)) == sorted(describe_tree(tmp_path / "fresh"))
    else:
        assert target.read_bytes() == (tmp_path / "fresh").read_bytes()
    assert load_model(target).name == "tiny"


@pytest.mark.parametrize(
    ("there", "save_format"),
    [
        ("empty directory", "tf"),
        *((there, save_format) for there in ("file", "dangling link") for save_format in FORMATS),
    ],
)
def test_without_overwrite_and_terminal_what_exists_is_kept(
    tmp_path: Path, model: keras.Model, there: str, save_format: Any
) -> None:
    target = tmp_path / "model"
    match there:
        case "file":
            target.touch()
        case "empty directory":
            target.mkdir()
        case _:
            target.symlink_to("nowhere")
    before = describe_tree(tmp_path)
    assert refuse(
        exporter.TargetExistsError, lambda: save_model(model, target, overwrite=False, save_format=save_format)
    ) == (f"{target} exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true.")
    assert issubclass(exporter.TargetExistsError, FileExistsError)
    assert describe_tree(tmp_path) == before


@by_format
def test_without_overwrite_a_free_path_is_written(tmp_path: Path, model: keras.Model, save_format: Any) -> None:
    save_model(model, tmp_path / "model", overwrite=False, save_format=save_format)
    assert load_model(tmp_path / "model").name == "tiny"


_ASK = """
import json, sys
import keras
from exporter import TargetExistsError, save_model

model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)], name="new")
for target in sys.argv[2:]:
    try:
        save_model(model, target, overwrite=False)
        outcome = "saved"
    except TargetExistsError as error:
        outcome = str(error)
    with open(sys.argv[1], "a") as log:
        log.write(json.dumps(outcome) + "\\n")
"""


def test_a_person_is_asked_in_a_terminal(tmp_path: Path) -> None:
    answers = {"y\n": True, " YES \n": True, "n\n": False, "\n": False, "maybe\n": False, "\x04": False}
    targets = [tmp_path / f"model {number}.h5" for number in range(len(answers))]
    for target in targets:
        target.write_text("old")
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _ASK, str(tmp_path / "log"), *map(str, targets)],
        env={**os.environ, "PYTHONPATH": _IMPORTED},
        stdin=secondary,
        stdout=secondary,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        os.close(secondary)
        shown = b""
        for number, answer in enumerate(answers):
            while shown.count(b"Replace it? [y/N] ") <= number:
                shown += os.read(primary, 4096)
            os.write(primary, answer.encode())
        with contextlib.suppress(OSError):  # the other end is closed when the program has ended
            while chunk := os.read(primary, 4096):
                shown += chunk
    os.close(primary)
    assert process.returncode == 0
    assert f"{targets[0]} exists. Replace it? [y/N] ".encode() in shown
    outcomes = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    for target, replaced, outcome in zip(targets, answers.values(), outcomes, strict=True):
        refusal = (
            f"{target} exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
        )
        assert outcome == ("saved" if replaced else refusal)
        assert h5py.is_hdf5(target) == replaced
        assert replaced or target.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["log", *(target.name for target in targets)]


@pytest.mark.parametrize("stdin", ["/dev/null", "closed"])
def test_a_terminal_for_output_alone_is_nobody_to_ask(tmp_path: Path, stdin: str) -> None:
    target = tmp_path / "model.h5"
    target.write_text("old")
    primary, secondary = pty.openpty()
    done = subprocess.run(
        [
            *("bash", "-c", f'"$0" "$@" {"<&-" if stdin == "closed" else "</dev/null"}'),
            *(sys.executable, "-c", _ASK, str(tmp_path / "log"), str(target)),
        ],
        env={**os.environ, "PYTHONPATH": _IMPORTED},
        stdout=secondary,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=1500,
    )
    os.close(secondary)
    os.close(primary)
    assert done.returncode == 0
    assert json.loads((tmp_path / "log").read_text()) == (
        f"{target} exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
    )
    assert target.read_text() == "old"


# `include_optimizer`


@by_format
def test_leaving_the_optimizer_out_saves_its_bytes(tmp_path: Path, save_format: Any) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(512)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 64)), np.ones((2, 512)), verbose=0)
    whole = save_model(model, tmp_path / "whole", save_format=save_format)
    bare = save_model(model, tmp_path / "bare", include_optimizer=False, save_format=save_format)
    weights = sum(variable.numpy().nbytes for variable in model.weights)
    assert count_bytes(whole) - count_bytes(bare) > 1.99 * weights
    assert count_bytes(bare) < weights + 60_000

    loaded = load_model(bare)
    assert not loaded.compiled
    assert getattr(loaded, "optimizer", None) is None
    np.testing.assert_array_equal(loaded(np.ones((1, 64))), model(np.ones((1, 64))))
    for path in [bare, *bare.rglob("*")]:
        if path.is_file() and path.name not in ("saved_model.pb", "fingerprint.pb"):
            assert b"mean_absolute_error" not in path.read_bytes(), path
            assert b"adam" not in path.read_bytes().lower(), path


@by_format
def test_a_model_is_loaded_uncompiled_when_it_is_asked_for(
    tmp_path: Path, model: keras.Model, save_format: Any
) -> None:
    loaded = load_model(save_model(model, tmp_path / "model", save_format=save_format), compile=False)
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), model(np.ones((1, 4))))


# `save_format`


@pytest.mark.parametrize(
    ("name", "save_format", "written"),
    [
        ("model.h5", None, "h5"),
        ("model.H5", None, "h5"),
        ("model.hdf5", None, "h5"),
        ("model.HDF5", None, "h5"),
        ("model.keras", None, "keras"),
        ("model.Keras", None, "keras"),
        ("model", None, "tf"),
        ("model.tf", None, "tf"),
        ("model.h5.d", None, "tf"),
        (".keras", None, "tf"),
        ("1", None, "tf"),
        ("model.h5", "h5", "h5"),
        ("model.hdf5", "h5", "h5"),
        ("model.keras", "keras", "keras"),
        ("model", "h5", "h5"),
        ("model", "keras", "keras"),
        ("model.bin", "keras", "keras"),
        ("model", "tf", "tf"),
    ],
    ids=lambda value: str(value),
)
def test_the_format_is_chosen(tmp_path: Path, model: keras.Model, name: str, save_format: Any, written: str) -> None:
    target = save_model(model, tmp_path / name, save_format=save_format)
    kind = "tf" if target.is_dir() else "h5" if h5py.is_hdf5(target) else "keras"
    assert kind == written
    assert (target / "saved_model.pb").is_file() == (written == "tf")
    assert zipfile.is_zipfile(target) == (written == "keras")


@pytest.mark.parametrize(
    ("name", "by_suffix", "save_format"),
    [
        ("model.h5", "h5", "tf"),
        ("model.h5", "h5", "keras"),
        ("model.hdf5", "h5", "tf"),
        ("model.HDF5", "h5", "keras"),
        ("model.keras", "keras", "tf"),
        ("model.keras", "keras", "h5"),
    ],
)
def test_a_suffix_that_contradicts_the_format_is_refused(
    tmp_path: Path, model: keras.Model, name: str, by_suffix: str, save_format: Any
) -> None:
    assert refuse(exporter.ArgumentError, lambda: save_model(model, tmp_path / name, save_format=save_format)) == (
        f"The suffix of `filepath` contradicts `save_format`: '{name}' is a name for '{by_suffix}', and "
        f"save_format='{save_format}' was asked for. Change one of them, or leave `save_format` out."
    )
    assert issubclass(exporter.ArgumentError, ValueError)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "value", ["hdf5", "TF", "", 5, True, b"tf", [], ["tf"], np.array(["tf", "h5"]), tf.constant("tf")], ids=repr
)
def test_an_unknown_format_is_refused(tmp_path: Path, model: keras.Model, value: Any) -> None:
    assert refuse(exporter.ArgumentError, lambda: save_model(model, tmp_path / "model", save_format=value)) == (
        f"`save_format` must be 'tf', 'h5', 'keras', 'litert', 'onnx', 'openvino' or None. Received: {value!r}."
    )


@pytest.mark.parametrize("argument", ["overwrite", "include_optimizer", "compile", "safe_mode"])
@pytest.mark.parametrize("value", [None, 0, 1, "yes", [], np.array([1, 2]), tf.constant(True)], ids=repr)
def test_what_is_neither_true_nor_false_is_refused(
    tmp_path: Path, model: keras.Model, argument: str, value: Any
) -> None:
    target = tmp_path / "model"
    arguments: dict[str, Any] = {argument: value}
    saving = argument in ("overwrite", "include_optimizer")
    action = (lambda: save_model(model, target, **arguments)) if saving else (lambda: load_model(target, **arguments))
    assert refuse(exporter.ArgumentError, action) == (
        f"`{argument}` must be True or False. Received: {value!r} (of type {type(value).__name__})."
    )


# `signatures` and `options`


class Functions(tf.Module):
    """Signatures of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(3.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scaled(self, x: Any) -> dict[str, Any]:
        return {"scaled": self.scale * x}

    @tf.function
    def polymorphic(self, x: Any) -> dict[str, Any]:
        return {"doubled": 2.0 * x}


def concrete(functions: Functions) -> Any:
    return functions.polymorphic.get_concrete_function(tf.TensorSpec([None, 2], tf.float32, name="pairs"))


def test_without_signatures_the_model_itself_is_served(tmp_path: Path, model: keras.Model) -> None:
    loaded = tf.saved_model.load(str(save_model(model, tmp_path / "model")))
    assert list(loaded.signatures) == ["serving_default"]
    endpoint = loaded.signatures["serving_default"]
    assert endpoint.structured_input_signature[1] == {"features": tf.TensorSpec((None, 4), tf.float32, name="features")}
    assert list(endpoint.structured_outputs) == ["scores"]
    for batch in (1, 2, 3):
        x = np.random.default_rng(batch).normal(size=(batch, 4)).astype("float32")
        np.testing.assert_allclose(endpoint(features=tf.constant(x))["scores"], model(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["tf.function", "concrete function", "dict", "empty dict"])
def test_signatures_are_served(tmp_path: Path, model: keras.Model, kind: str) -> None:
    functions = Functions()
    signatures: Any = {
        "tf.function": functions.scaled,
        "concrete function": concrete(functions),
        "dict": {"first": functions.scaled, "second": concrete(functions)},
        "empty dict": {},
    }[kind]
    loaded = tf.saved_model.load(str(save_model(model, tmp_path / "model", signatures=signatures)))
    pairs, numbers = tf.constant([[1.0, 2.0]]), tf.constant([1.0, 2.0])
    outputs = {
        name: endpoint(**({"pairs": pairs} if "pairs" in endpoint.structured_input_signature[1] else {"x": numbers}))
        for name, endpoint in loaded.signatures.items()
    }
    scaled, doubled = {"scaled": [3.0, 6.0]}, {"doubled": [[2.0, 4.0]]}
    assert {
        name: {key: value.numpy().tolist() for key, value in output.items()} for name, output in outputs.items()
    } == {
        "tf.function": {"serving_default": scaled},
        "concrete function": {"serving_default": doubled},
        "dict": {"first": scaled, "second": doubled},
        "empty dict": {},
    }[kind]
    assert load_model(tmp_path / "model").name == "tiny"


REFUSED_SIGNATURES: dict[str, tuple[Any, str]] = {
    "int": (
        5,
        "The signature 'serving_default' must be a tf.function or a concrete function. Received: 5 (of type int).",
    ),
    "list": (
        [1],
        "The signature 'serving_default' must be a tf.function or a concrete function. Received: [1] (of type list).",
    ),
    "value": (
        {"call": 5},
        "The signature 'call' must be a tf.function or a concrete function. Received: 5 (of type int).",
    ),
    "name": ({1: None}, "`signatures` must have names of type str. Received the name: 1."),
    "empty name": ({"": None}, "`signatures` must have names of type str. Received the name: ''."),
    "polymorphic": (
        Functions().polymorphic,
        "The signature 'serving_default' is a tf.function without an input signature, so its shapes are not known. "
        "Decorate it with `@tf.function(input_signature=[tf.TensorSpec(...)])`, or give "
        "`function.get_concrete_function(...)`.",
    ),
}


@pytest.mark.parametrize("refused", REFUSED_SIGNATURES)
def test_what_is_no_signature_is_refused(tmp_path: Path, model: keras.Model, refused: str) -> None:
    target = save_model(model, tmp_path / "model")
    before = describe_tree(tmp_path)
    signatures, text = REFUSED_SIGNATURES[refused]
    assert refuse(exporter.ArgumentError, lambda: save_model(model, target, signatures=signatures)) == text
    assert describe_tree(tmp_path) == before


@pytest.mark.parametrize("save_format", ["h5", "keras"])
@pytest.mark.parametrize("given", ["signatures", "options", "signatures and options"])
def test_other_formats_take_neither_signatures_nor_options(
    tmp_path: Path, model: keras.Model, given: str, save_format: Any
) -> None:
    arguments: dict[str, Any] = {}
    if "signatures" in given:
        arguments["signatures"] = Functions().scaled
    if "options" in given:
        arguments["options"] = tf.saved_model.SaveOptions()
    names = given.replace(" and ", "` and `")
    kinds, formats = "a SavedModel", "'tf'"
    if "options" not in given:
        kinds += ", a LiteRT file, an ONNX file or an OpenVINO IR"
        formats += " or 'litert' or 'onnx' or 'openvino'"
    assert refuse(
        exporter.ArgumentError, lambda: save_model(model, tmp_path / "model", save_format=save_format, **arguments)
    ) == (
        f"`{names}` belong to {kinds}: '{save_format}' has no place for them. Leave them out, or save with "
        f"save_format={formats}."
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "value", [5, {}, "strict", tf.saved_model.LoadOptions()], ids=lambda value: type(value).__name__
)
def test_what_are_no_options_is_refused(tmp_path: Path, model: keras.Model, value: Any) -> None:
    assert refuse(exporter.ArgumentError, lambda: save_model(model, tmp_path / "model", options=value)) == (
        f"`options` must be a tf.saved_model.SaveOptions. Received: {value!r} (of type {type(value).__name__})."
    )
    assert os.listdir(tmp_path) == []


# h5py that cannot be imported

_WITHOUT_H5PY = """
import sys


class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "h5py":
            raise ImportError("libhdf5.so: cannot open shared object file")


if sys.argv[2] == "missing":
    sys.modules["h5py"] = None
else:
    sys.meta_path.insert(0, Broken())

import keras
import exporter

model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
folder = sys.argv[1]
for action in (
    lambda: exporter.save_model(model, f"{folder}/new.h5"),
    lambda: exporter.save_model(model, f"{folder}/new.keras"),
    lambda: exporter.save_model(model, f"{folder}/new"),
    lambda: exporter.load_model(f"{folder}/old.h5"),
    lambda: exporter.load_model(f"{folder}/old.keras"),
    lambda: exporter.load_model(f"{folder}/old"),
):
    try:
        action()
    except exporter.MissingDependencyError as error:
        assert isinstance(error, ImportError)
        print(error)
"""


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "import of h5py halted; None in sys.modules"),
        ("broken", "libhdf5.so: cannot open shared object file"),
    ],
)
def test_without_h5py_the_error_says_what_to_install(tmp_path: Path, model: keras.Model, how: str, reason: str) -> None:
    for name in ("old.h5", "old.keras", "old"):
        save_model(model, tmp_path / name)
    before = describe_tree(tmp_path)
    purposes = ["an HDF5 file", "the weights of a .keras archive", "the variables of a SavedModel"] * 2
    assert run_python(_WITHOUT_H5PY, str(tmp_path), how).splitlines() == [
        f"h5py is needed for {purpose} and cannot be imported: {reason}. Install it: pip install h5py"
        for purpose in purposes
    ]
    assert describe_tree(tmp_path) == before


# A save that fails


@keras.saving.register_keras_serializable(package="test_api")
class Refusing(keras.layers.Layer):
    """A layer that fails where it is told to."""

    def __init__(self, place: str, **options: Any) -> None:
        super().__init__(**options)
        self.place = place
        self.saving = False

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(4,), name="kernel")

    def call(self, inputs: Any) -> Any:
        if self.place == "call" and self.saving:
            raise LookupError("the call fails")
        return inputs * self.kernel

    def get_config(self) -> dict[str, Any]:
        if self.place == "get_config" and self.saving:
            raise ValueError("the configuration fails")
        return {**super().get_config(), "place": self.place}

    def save_own_variables(self, store: Any) -> None:
        if self.place == "save_own_variables" and self.saving:
            raise LookupError("the variables fail")
        super().save_own_variables(store)


@pytest.mark.parametrize(
    ("place", "save_format", "text"),
    [
        ("call", "tf", "the call fails"),
        ("save_own_variables", "tf", "the variables fail"),
        ("save_own_variables", "h5", "the variables fail"),
        ("save_own_variables", "keras", "the variables fail"),
        ("get_config", "h5", "The model 'old' has no configuration: the configuration fails. "),
        ("get_config", "keras", "The model 'old' has no configuration: the configuration fails. "),
    ],
    ids=lambda value: str(value).partition(" ")[0],
)
def test_a_model_that_fails_midway_leaves_the_old_artifact(
    tmp_path: Path, place: str, save_format: Any, text: str
) -> None:
    layer = Refusing(place)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs), name="old")
    model.compile("sgd", "mse")
    target = save_model(model, tmp_path / "model", save_format=save_format)
    (tmp_path / "beside.txt").write_text("beside")
    before = describe_tree(tmp_path)
    seen = describe_model(model)
    layer.saving = True
    for place_to_go in (target, tmp_path / "new" / "parents" / "model"):
        with pytest.raises((LookupError, exporter.ModelError)) as caught:
            save_model(model, place_to_go, save_format=save_format)
        assert text in str(caught.value)
        assert describe_tree(tmp_path) == before
    layer.saving = False
    assert describe_model(model) == seen
    assert load_model(target).name == "old"


_FULL_DISK = """
import json, os, resource, sys
import keras
import numpy as np
import exporter

model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(512)], name="new")
model.compile("adam", "mse")
model.fit(np.ones((2, 64)), np.ones((2, 512)), verbose=0)
for limit in (50, 1_500, 3_000, 20_000, 100_000, 200_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for target in sys.argv[1:]:
        try:
            exporter.save_model(model, target)
        except OSError as error:
            outcome = str(error)
        else:
            outcome = "saved"
        print(json.dumps([limit, target, outcome]))
"""


def test_a_full_disk_is_an_os_error_and_leaves_the_old_artifact(tmp_path: Path, model: keras.Model) -> None:
    targets = [save_model(model, tmp_path / name) for name in ("model", "model.h5", "model.keras")]
    before = describe_tree(tmp_path)
    printed = [json.loads(line) for line in run_python(_FULL_DISK, *map(str, targets)).splitlines()]
    assert len(printed) == 18
    for limit, target, outcome in printed:
        assert "File too large" in outcome, (limit, target, outcome)
    assert describe_tree(tmp_path) == before


_READ_ONLY = """
import ctypes, json, sys
# The superuser may write everywhere; without this capability a read-only directory is one for everybody.
if ctypes.CDLL(None).geteuid() == 0:
    import struct
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(24)
    assert ctypes.CDLL(None).capset(header, data) == 0
import keras
import exporter

model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)], name="new")
for target in sys.argv[1:]:
    try:
        exporter.save_model(model, target)
    except exporter.ArgumentError as error:
        print(json.dumps(str(error)))
"""


def test_a_read_only_directory_keeps_the_old_artifact(tmp_path: Path, model: keras.Model) -> None:
    folder = tmp_path / "read only"
    targets = [folder / name for name in ("model", "model.h5", "model.keras", "below/model.h5")]
    for target in targets:
        save_model(model, target)
    targets.append(folder / "new" / "parents" / "model")
    before = describe_tree(tmp_path)
    folder.chmod(0o555)
    (folder / "below").chmod(0o555)
    try:
        printed = run_python(_READ_ONLY, *map(str, targets))
    finally:
        folder.chmod(0o755)
        (folder / "below").chmod(0o755)
    closed = [folder / "below" if target.parent.name == "below" else folder for target in targets]
    assert [json.loads(line) for line in printed.splitlines()] == [
        f"{target} cannot be written: you may not write in {parent}. "
        "Choose another `filepath`, or let yourself write there."
        for target, parent in zip(targets, closed, strict=True)
    ]
    assert describe_tree(tmp_path) == before


# `load_model`


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    text = f"There is no file or directory at {path}. Give the path of a saved model."
    assert refuse(exporter.ArtifactError, lambda: load_model(path)) == text
    path.symlink_to("nowhere")
    assert refuse(exporter.ArtifactError, lambda: load_model(path)) == text


@pytest.mark.parametrize("kind", ["text", "empty file", "directory", "empty directory", "pipe", "parent is a file"])
def test_what_is_no_model_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    expected = "Expected `saved_model.pb` (a SavedModel) or `config.json` (an unzipped .keras archive)."
    read = "Expected a file that `save_model` or Keras wrote; the file may be damaged or incomplete."
    match kind:
        case "text":
            path.write_text("hello")
            text = f"{path} is neither an HDF5 file nor a .keras archive: it begins with b'hello'. {read}"
        case "empty file":
            path.touch()
            text = f"{path} is neither an HDF5 file nor a .keras archive: it begins with b''. {read}"
        case "directory":
            (path / "checkpoint").mkdir(parents=True)
            text = f"{path} is a directory without a model. {expected} Received: checkpoint."
        case "empty directory":
            path.mkdir()
            text = f"{path} is a directory without a model. {expected} Received: an empty directory."
        case "pipe":
            os.mkfifo(path)
            text = f"{path} is neither a file nor a directory. Give the path of a saved model."
        case _:
            (tmp_path / "file").touch()
            path = tmp_path / "file" / "model"
            text = f"There is no file or directory at {path}. Give the path of a saved model."
    assert refuse(exporter.ArtifactError, lambda: load_model(path)) == text


@pytest.mark.parametrize("save_format", ["h5", "keras"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_an_artifact_error(
    tmp_path: Path, model: keras.Model, save_format: Any, share: float
) -> None:
    path = save_model(model, tmp_path / "model", save_format=save_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refuse(exporter.ArtifactError, lambda: load_model(path))
    assert message.startswith(str(path))
    assert "damaged or incomplete" in message


SAVED_MODEL_FILES = [
    "config.json",
    "metadata.json",
    "model.weights.h5",
    "variables/variables.data-00000-of-00001",
    "assets.extra/exporter/state.json",
]


@pytest.mark.parametrize("name", SAVED_MODEL_FILES)
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut in half"])
def test_a_damaged_saved_model_is_an_artifact_error(tmp_path: Path, model: keras.Model, name: str, damage: str) -> None:
    path = save_model(model, tmp_path / "model")
    content = (path / name).read_bytes()
    (path / name).unlink()
    if damage != "removed":
        (path / name).write_bytes(b"" if damage == "emptied" else content[: len(content) // 2])
    with contextlib.suppress(exporter.ArtifactError):
        # What `load_model` does not need may be damaged; then the model is whole.
        loaded = load_model(path)
        left, right = collect_state(model), collect_state(loaded)
        assert {path: digest(left[path]) for path in left} == {path: digest(right[path]) for path in right}


def test_a_saved_model_that_is_no_keras_model_is_told(tmp_path: Path) -> None:
    tf.saved_model.save(Module(), str(tmp_path / "module"))
    message = refuse(exporter.ArtifactError, lambda: load_model(tmp_path / "module"))
    assert message == (
        f"{tmp_path / 'module'} has no endpoint 'serving_default' to make a model of. Its endpoints: none."
    )


def test_a_file_of_weights_alone_is_told(tmp_path: Path, model: keras.Model) -> None:
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    message = refuse(exporter.ArtifactError, lambda: load_model(path))
    assert message.startswith(f"{path} holds no model, only ")
    assert message.endswith("A file of weights alone needs the model: use `model.load_weights`.")


_UNKNOWN_CLASS = """
import sys
import exporter

for path in sys.argv[1:]:
    try:
        exporter.load_model(path)
    except exporter.ArtifactError as error:
        print(error)
"""


class Doubling(keras.layers.Layer):
    """A layer that is not registered anywhere."""

    def call(self, inputs: Any) -> Any:
        return 2 * inputs


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_an_unknown_class_is_named_with_the_remedies(tmp_path: Path, save_format: Any) -> None:
    inputs = keras.Input((4,))
    path = save_model(keras.Model(inputs, Doubling()(inputs)), tmp_path / "model", save_format=save_format)
    assert run_python(_UNKNOWN_CLASS, str(path)) == (
        "The model's configuration cannot be rebuilt: Could not locate class 'Doubling'. Import the module that "
        "defines it, register it with `@keras.saving.register_keras_serializable()`, or name it in "
        "`custom_objects`.\n"
    )
    loaded = load_model(path, custom_objects={"Doubling": Doubling})
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), 2 * np.ones((1, 4)))


@pytest.mark.parametrize("value", [5, "Doubling", [Doubling], Doubling], ids=["int", "text", "list", "class"])
def test_custom_objects_of_a_wrong_type_are_refused(tmp_path: Path, value: Any) -> None:
    assert refuse(exporter.ArgumentError, lambda: load_model(tmp_path, custom_objects=value)) == (
        "`custom_objects` must be a dict of names and classes or functions. "
        f"Received: {value!r} (of type {type(value).__name__})."
    )


@pytest.mark.parametrize("save_format", ["h5", "keras"])
def test_a_lambda_is_loaded_only_on_trust(tmp_path: Path, save_format: Any) -> None:
    inputs = keras.Input((4,))
    outputs = keras.layers.Lambda(lambda x: 3 * x, name="tripled")(inputs)
    path = save_model(keras.Model(inputs, outputs), tmp_path / "model", save_format=save_format)
    assert refuse(exporter.ArtifactError, lambda: load_model(path)) == (
        "Lambda 'tripled' holds a Python lambda, marshalled: loading it is arbitrary code execution. "
        "Load it with safe_mode=False only if you trust where the file comes from."
    )
    loaded = load_model(path, safe_mode=False)
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), 3 * np.ones((1, 4)))


# Anything at all


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory for paths that nobody chose by hand."""
    folder = tmp_path_factory.mktemp("playground")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def smallest() -> keras.Model:
    return keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)], name="smallest")


def is_inside(filepath: str) -> bool:
    """Whether a path stays in the working directory: a test does not write elsewhere."""
    return not os.path.isabs(filepath) and ".." not in filepath and not filepath.startswith("~")


parts = st.text(min_size=0, max_size=60) | st.sampled_from(
    ["a", ".", " ", "é" * 130, "x" * 255, "x" * 256, "a=b", "~", ":"]
)
filepaths = st.builds(
    lambda parts, suffix: "/".join(parts) + suffix,
    st.lists(parts, min_size=1, max_size=3),
    st.sampled_from([".h5", ".keras", ".h5/", ""]),
).filter(is_inside)


@given(filepaths)
@example("x" * 252 + ".h5")
@example("a.h5/b.h5")
@example("file://a.h5")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_path_is_written_or_refused(playground: Path, smallest: keras.Model, filepath: str) -> None:
    save_format: Any = None if filepath.rstrip("/").endswith((".h5", ".keras")) else "h5"
    try:
        target = save_model(smallest, filepath, save_format=save_format)
    except (exporter.ArgumentError, exporter.TargetExistsError):
        with contextlib.suppress(exporter.ExportError):
            load_model(filepath)
    else:
        assert load_model(filepath).name == "smallest"
        assert target == Path(filepath)
    assert list(playground.rglob(".exporter-*")) == []


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3) | st.integers(), st.integers() | st.none(), max_size=2)
    | st.sampled_from(
        [object(), int, len, np.array([1, 2]), np.array("tf"), np.True_, tf.constant([1.0]), Path("x"), keras.Model]
    )
)
ARGUMENTS = ["model", "overwrite", "include_optimizer", "save_format", "signatures", "options"]


@given(st.dictionaries(st.sampled_from(ARGUMENTS), anything, min_size=1), st.sampled_from(FORMATS))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_argument_is_taken_or_refused(
    playground: Path, smallest: keras.Model, arguments: dict[str, Any], save_format: str
) -> None:
    target = playground / f"argument{SUFFIX[save_format]}"
    with contextlib.suppress(exporter.ExportError):
        save_model(**{"model": smallest, "filepath": target, **arguments})
    assert list(playground.rglob(".exporter-*")) == []


@given(st.dictionaries(st.sampled_from(["filepath", "custom_objects", "compile", "safe_mode"]), anything, min_size=1))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_argument_of_a_load_is_taken_or_refused(
    playground: Path, smallest: keras.Model, arguments: dict[str, Any]
) -> None:
    target = playground / "loaded.h5"
    if not target.exists():
        save_model(smallest, target)
    with contextlib.suppress(exporter.ExportError):
        load_model(**{"filepath": target, **arguments})
