"""One directory, three readers: TensorFlow, stock Keras, and our own `load_model`."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter import load_model, save_model
from exporter.saving.contents import Contents, Endpoint, Tensor
from exporter.saving.plans import plan_save
from exporter.saving.requests import SaveRequest
from exporter.saving.state.collecting import collect_state, digest

DATA = "variables/variables.data-00000-of-00001"


def make_functional() -> keras.Model:
    keras.utils.set_random_seed(3)
    left = keras.Input((4,), name="left side")
    right = keras.Input((2,), name="right")
    merged = keras.layers.Concatenate()([left, right])
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8, activation="relu", name="hidden")(merged))
    outputs = [keras.layers.Dense(1, name="price")(hidden), keras.layers.Dense(3, name="odds")(hidden)]
    model = keras.Model([left, right], outputs, name="two_by_two")
    model.compile("adam", ["mse", "mse"])
    model.fit(make_inputs(model, 8), [np.ones((8, 1)), np.ones((8, 3))], batch_size=4, verbose=0)
    return model


def make_sequential() -> keras.Model:
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Input((4,), name="features"), keras.layers.Dense(3, name="scores")]
    model = keras.Sequential(layers, name="sequence")
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), batch_size=4, verbose=0)
    return model


@keras.saving.register_keras_serializable(package="layout")
class Pair(keras.Model):
    """Takes a dict and gives a dict."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first = keras.layers.Dense(2)
        self.second = keras.layers.Dense(2)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": self.first(inputs["a"]) + self.second(inputs["b"]), "first": self.first(inputs["a"])}


def make_subclassed() -> keras.Model:
    keras.utils.set_random_seed(5)
    model = Pair(name="pair")
    model({"a": np.ones((1, 3), "float32"), "b": np.ones((1, 5), "float32")})
    return model


MAKERS = [make_functional, make_sequential, make_subclassed]
by_model = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__[5:])

ENDPOINTS = {
    make_functional: Endpoint(
        {"left_side": Tensor((None, 4), "float32"), "right": Tensor((None, 2), "float32")},
        {"odds": Tensor((None, 3), "float32"), "price": Tensor((None, 1), "float32")},
    ),
    make_sequential: Endpoint({"features": Tensor((None, 4), "float32")}, {"scores": Tensor((None, 3), "float32")}),
    make_subclassed: Endpoint(
        {"a": Tensor((None, 3), "float32"), "b": Tensor((None, 5), "float32")},
        {"first": Tensor((None, 2), "float32"), "sum": Tensor((None, 2), "float32")},
    ),
}


def make_inputs(model: keras.Model, batch: int) -> Any:
    generator = np.random.default_rng(batch)
    if model.name == "pair":
        return {"a": generator.random((batch, 3), "float32"), "b": generator.random((batch, 5), "float32")}
    if model.name == "two_by_two":
        return [generator.random((batch, 4), "float32"), generator.random((batch, 2), "float32")]
    return generator.random((batch, 4), "float32")


def name_inputs(model: keras.Model, inputs: Any) -> dict[str, Any]:
    if model.name == "two_by_two":
        return dict(zip(["left_side", "right"], inputs, strict=True))
    return inputs if isinstance(inputs, dict) else {"features": inputs}


def name_outputs(model: keras.Model, outputs: Any) -> dict[str, Any]:
    if model.name == "two_by_two":
        return dict(zip(["price", "odds"], outputs, strict=True))
    return outputs if isinstance(outputs, dict) else {"scores": outputs}


def digest_state(model: keras.Model) -> dict[str, str]:
    return {path: digest(variable) for path, variable in collect_state(model).items()}


def digest_files(path: Path) -> dict[str, str]:
    return {
        entry.relative_to(path).as_posix(): hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    }


def write(model: keras.Model, path: Path, **arguments: Any) -> Contents:
    return plan_save(SaveRequest(model, path, **arguments)).write(path)


def check_tensorflow(model: keras.Model, path: Path) -> None:
    endpoint = tf.saved_model.load(str(path)).signatures["serving_default"]
    for batch in (1, 2, 3):
        inputs = make_inputs(model, batch)
        served = endpoint(**{name: tf.constant(value) for name, value in name_inputs(model, inputs).items()})
        compare(served, name_outputs(model, model(inputs)))


def check_session(model: keras.Model, path: Path) -> None:
    """Runs the graph itself, as TF Serving and the C API do: its own saver restores the variables."""
    batches = [make_inputs(model, batch) for batch in (1, 2, 3)]
    expected = [keras.tree.map_structure(np.asarray, name_outputs(model, model(inputs))) for inputs in batches]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = meta_graph.signature_def["serving_default"]
        for inputs, outputs in zip(batches, expected, strict=True):
            feed = {signature.inputs[name].name: value for name, value in name_inputs(model, inputs).items()}
            served = session.run({name: info.name for name, info in signature.outputs.items()}, feed)
            compare(served, outputs)


def check_stock_keras(model: keras.Model, path: Path) -> None:
    loaded = keras.models.load_model(path)
    assert type(loaded) is type(model)
    inputs = make_inputs(model, 3)
    compare(name_outputs(model, loaded(inputs)), name_outputs(model, model(inputs)), exactly=True)
    if model.compiled:
        left = [digest(variable) for variable in model.optimizer.variables]
        assert [digest(variable) for variable in loaded.optimizer.variables] == left


def check_exporter(model: keras.Model, path: Path) -> None:
    assert digest_state(load_model(path)) == digest_state(model)


READERS = [check_tensorflow, check_session, check_stock_keras, check_exporter]
by_reader = pytest.mark.parametrize("check", READERS, ids=lambda check: check.__name__[6:])


def compare(served: dict[str, Any], expected: dict[str, Any], exactly: bool = False) -> None:
    assert sorted(served) == sorted(expected)
    for name, value in expected.items():
        if exactly:
            np.testing.assert_array_equal(served[name], value)
        else:
            np.testing.assert_allclose(served[name], value, rtol=1e-5, atol=1e-6)


# The readers


@by_model
@by_reader
def test_every_reader_opens_the_directory(
    tmp_path: Path, make: Callable[[], keras.Model], check: Callable[[keras.Model, Path], None]
) -> None:
    model = make()
    save_model(model, tmp_path / "model")
    check(model, tmp_path / "model")


@by_model
def test_the_names_and_shapes_are_those_of_the_model(tmp_path: Path, make: Callable[[], keras.Model]) -> None:
    contents = write(make(), tmp_path / "model")
    assert contents.signatures == {"serving_default": ENDPOINTS[make]}
    endpoint = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert {
        name: Tensor(tuple(spec.shape), spec.dtype.name)
        for name, spec in endpoint.structured_input_signature[1].items()
    } == ENDPOINTS[make].inputs
    assert {
        name: Tensor(tuple(spec.shape), spec.dtype.name) for name, spec in endpoint.structured_outputs.items()
    } == ENDPOINTS[make].outputs


# The files


def test_the_weights_are_on_disk_once(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((512,)), keras.layers.Dense(512), keras.layers.Dense(512)])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 512)), np.ones((2, 512)), verbose=0)
    path = save_model(model, tmp_path / "model")
    state = sum(variable.numpy().nbytes for variable in collect_state(model).values())
    assert state > 6_000_000
    sizes = {
        entry.relative_to(path).as_posix(): entry.stat().st_size
        for entry in path.rglob("*")
        if entry.is_file() and not entry.is_symlink()
    }
    graph = sizes.pop("saved_model.pb")
    assert sum(sizes.values()) <= 1.03 * state
    assert graph < 500_000


def test_the_weights_of_keras_are_a_relative_link_to_those_of_tensorflow(tmp_path: Path) -> None:
    path = save_model(make_functional(), tmp_path / "model")
    assert os.readlink(path / "model.weights.h5") == DATA
    assert [entry.name for entry in path.rglob("*") if entry.is_symlink()] == ["model.weights.h5"]
    assert sorted(entry.name for entry in (path / "variables").iterdir()) == [
        "variables.data-00000-of-00001",
        "variables.index",
    ]


def test_the_keys_of_the_checkpoint_are_the_paths_of_the_state(tmp_path: Path) -> None:
    model = make_functional()
    path = save_model(model, tmp_path / "model")
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    with h5py.File(path / DATA) as file:
        for name, variable in collect_state(model).items():
            np.testing.assert_array_equal(reader.get_tensor(name + suffix), variable)
            np.testing.assert_array_equal(file[name][()], variable)


def copy_with_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


def copy_following_links(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-rL", str(source), str(target)], check=True)


def copy_with_tar(source: Path, target: Path) -> None:
    with tarfile.open(target.with_suffix(".tar"), "w") as archive:
        archive.add(source, target.name)
    with tarfile.open(target.with_suffix(".tar")) as archive:
        archive.extractall(target.parent, filter="data")


def copy_with_copytree(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def move(source: Path, target: Path) -> None:
    shutil.move(source, target)


@pytest.mark.parametrize(
    "copy",
    [copy_with_cp, copy_following_links, copy_with_tar, copy_with_copytree, move],
    ids=lambda copy: copy.__name__,
)
def test_a_copy_is_as_good(tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
    model = make_functional()
    (tmp_path / "elsewhere").mkdir()
    save_model(model, tmp_path / "model")
    copy(tmp_path / "model", tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    for check in READERS:
        check(model, tmp_path / "elsewhere" / "copy")


_SAVE = """
import sys
sys.path.insert(0, sys.argv[1])
import keras
from exporter import save_model
import test_saved_model_layout as layout

for make in [*layout.MAKERS, layout.make_attached]:
    save_model(make(), f"{sys.argv[2]}/{make.__name__}")
"""


def test_the_same_model_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    processes = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(exporter.__file__).parents[1]), os.environ["PYTHONPATH"]]),
            "PYTHONHASHSEED": seed,
            "TMPDIR": str(tmp_path),
        }
        command = [sys.executable, "-c", _SAVE, str(Path(__file__).parent), str(tmp_path / seed)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=1500)
        assert process.returncode == 0, errors
    first, second = (digest_files(tmp_path / seed) for seed in ("1", "2"))
    assert "make_functional/fingerprint.pb" in first
    assert first == second


# Variables of equal names


@keras.saving.register_keras_serializable(package="layout")
class Twins(keras.Model):
    """Layers whose variables have the same name, shape and dtype, and different values."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.twins = [keras.layers.Dense(4, name="twin", use_bias=False) for _ in range(12)]

    def call(self, inputs: Any) -> Any:
        for twin in self.twins:
            inputs = twin(inputs)
        return inputs


def make_twins() -> keras.Model:
    keras.utils.set_random_seed(6)
    model = Twins(name="sequence")
    model(np.ones((1, 4), "float32"))
    # Products of these matrices do not commute, so any two of them that are mixed up change the result.
    assert {variable.path for variable in model.variables} == {"sequence/twin/kernel"}
    return model


@pytest.mark.parametrize("check", [check_tensorflow, check_session, check_exporter], ids=lambda check: check.__name__)
def test_variables_of_equal_names_are_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[keras.Model, Path], None]
) -> None:
    model = make_twins()
    contents = write(model, tmp_path / "model")
    [(input_name, _)] = contents.signatures["serving_default"].inputs.items()
    [(output_name, _)] = contents.signatures["serving_default"].outputs.items()
    monkeypatch.setattr(sys.modules[__name__], "name_inputs", lambda model, inputs: {input_name: inputs})
    monkeypatch.setattr(sys.modules[__name__], "name_outputs", lambda model, outputs: {output_name: outputs})
    check(model, tmp_path / "model")


def test_tied_weights_are_on_disk_once(tmp_path: Path) -> None:
    keras.utils.set_random_seed(8)
    dense = keras.layers.Dense(4, name="tied")
    inputs = keras.Input((4,), name="features")
    outputs = keras.layers.Add(name="scores")([dense(inputs), dense(dense(inputs))])
    model = keras.Model(inputs, outputs, name="sequence")
    save_model(model, tmp_path / "model")
    with h5py.File(tmp_path / "model" / DATA) as file:
        found: list[Any] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(found) == 2
    for check in READERS:
        check(model, tmp_path / "model")


# What is attached to the model


class Scaler(tf.Module):
    """A module with a variable and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2.0, name="factor")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def scale(self, x: Any) -> Any:
        return self.factor * x


@keras.saving.register_keras_serializable(package="layout")
class Attached(keras.Model):
    """A model with functions, variables, tables, assets and modules of its user's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def logits(self, x: Any) -> Any:
        return self(x) + self.offset

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look_up(self, keys: Any) -> Any:
        return self.static_table.lookup(keys)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def look_up_growing(self, keys: Any) -> Any:
        return self.growing_table.lookup(keys)

    @tf.function(input_signature=[])
    def read_words(self) -> Any:
        return tf.strings.split(tf.io.read_file(self.words.asset_path))


def make_attached() -> keras.Model:
    keras.utils.set_random_seed(9)
    model = Attached(name="attached")
    model(np.ones((1, 3), "float32"))
    model.offset = tf.Variable([10.0, 20.0], name="offset")
    keys, values = tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
    model.static_table = tf.lookup.StaticHashTable(initializer, default_value=-1)
    model.growing_table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, default_value=-1)
    model.growing_table.insert(keys, values + 10)
    place = Path(os.environ.get("TMPDIR", "/tmp"), "words.txt")
    place.write_text("alpha beta\n")
    model.words = tf.saved_model.Asset(str(place))
    model.scaler = Scaler()
    return model


@pytest.fixture
def attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[keras.Model, Any]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model = make_attached()
    save_model(model, tmp_path / "model")
    (tmp_path / "words.txt").unlink()
    return model, tf.saved_model.load(str(tmp_path / "model"))


def test_functions_of_the_model_come_back(attached: tuple[keras.Model, Any]) -> None:
    model, loaded = attached
    x = np.random.default_rng(0).random((5, 3), "float32")
    np.testing.assert_allclose(loaded.logits(x), model.logits(x), rtol=1e-6)


def test_variables_come_back_and_are_those_of_the_functions(attached: tuple[keras.Model, Any]) -> None:
    _, loaded = attached
    x = np.zeros((1, 3), "float32")
    before = loaded.logits(x).numpy()
    np.testing.assert_array_equal(loaded.offset, [10.0, 20.0])
    loaded.offset.assign([0.0, 0.0])
    np.testing.assert_allclose(before - loaded.logits(x), [[10.0, 20.0]], rtol=1e-6)


def test_tables_come_back_with_their_rows(attached: tuple[keras.Model, Any]) -> None:
    _, loaded = attached
    keys = tf.constant(["a", "b", "c"])
    assert loaded.look_up(keys).numpy().tolist() == [1, 2, -1]
    assert loaded.look_up_growing(keys).numpy().tolist() == [11, 12, -1]


def test_assets_come_back_in_the_directory(attached: tuple[keras.Model, Any], tmp_path: Path) -> None:
    _, loaded = attached
    assert loaded.read_words().numpy().tolist() == [b"alpha", b"beta"]
    assert (tmp_path / "model" / "assets" / "words.txt").read_text() == "alpha beta\n"


def test_modules_come_back(attached: tuple[keras.Model, Any]) -> None:
    _, loaded = attached
    assert loaded.scaler.scale(tf.constant([1.0, 2.0])).numpy().tolist() == [2.0, 4.0]
    loaded.scaler.factor.assign(3.0)
    assert loaded.scaler.scale(tf.constant([1.0, 2.0])).numpy().tolist() == [3.0, 6.0]


def test_a_model_with_attachments_comes_back_itself(attached: tuple[keras.Model, Any], tmp_path: Path) -> None:
    model, _ = attached
    x = np.random.default_rng(0).random((5, 3), "float32")
    np.testing.assert_array_equal(load_model(tmp_path / "model")(x), model(x))


def test_a_static_table_and_an_asset_keep_the_keras_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model = make_attached()
    del model.growing_table
    model.look_up_growing = None
    contents = write(model, tmp_path / "model")
    assert [left.what for left in contents.left_out] == []
    x = np.random.default_rng(0).random((5, 3), "float32")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model")(x), model(x))


def test_a_table_of_a_layer_is_looked_up_by_every_reader(tmp_path: Path) -> None:
    inputs = keras.Input((1,), dtype="string", name="word")
    lookup = keras.layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot", name="code")
    model = keras.Model(inputs, lookup(inputs))
    save_model(model, tmp_path / "model")
    words = tf.constant([["green"], ["blue"], ["red"]])
    expected = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    endpoint = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert endpoint(word=words)["code"].numpy().tolist() == expected
    assert load_model(tmp_path / "model")(words).numpy().tolist() == expected
    assert keras.models.load_model(tmp_path / "model")(words).numpy().tolist() == expected
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        signature = meta_graph.signature_def["serving_default"]
        feed = {signature.inputs["word"].name: [["green"], ["blue"], ["red"]]}
        assert session.run(signature.outputs["code"].name, feed).tolist() == expected


# Several data files, and another device


def make_options(kind: str) -> tf.saved_model.SaveOptions:
    if kind == "sharded":
        policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=60)
        return tf.saved_model.SaveOptions(experimental_sharding_callback=policy)
    return tf.saved_model.SaveOptions(experimental_io_device="/job:localhost")


REASONS = {
    "sharded": "stock keras.models.load_model needs one data file, and experimental_sharding_callback spreads the "
    "variables over several",
    "device": "stock keras.models.load_model needs one data file, and experimental_io_device lets TensorFlow write "
    "them on another device",
}


@pytest.mark.parametrize("kind", ["sharded", "device"])
@by_model
def test_what_tensorflow_writes_itself_is_as_exact(tmp_path: Path, make: Callable[[], keras.Model], kind: str) -> None:
    model = make()
    contents = write(model, tmp_path / "model", options=make_options(kind))
    assert {left.what: left.why for left in contents.left_out}["Keras twin"] == REASONS[kind]
    assert not (tmp_path / "model" / "model.weights.h5").is_symlink()
    assert not (tmp_path / "model" / "config.json").exists()
    shards = list((tmp_path / "model" / "variables").glob("variables.data-*"))
    assert (len(shards) > 1) == (kind == "sharded")
    for check in (check_tensorflow, check_session, check_exporter):
        check(model, tmp_path / "model")


@by_model
def test_without_a_saver_there_are_two_readers_left(tmp_path: Path, make: Callable[[], keras.Model]) -> None:
    model = make()
    save_model(model, tmp_path / "model", options=tf.saved_model.SaveOptions(experimental_skip_saver=True))
    for check in (check_tensorflow, check_stock_keras, check_exporter):
        check(model, tmp_path / "model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
    assert meta_graph.saver_def.restore_op_name == ""


def test_the_saver_of_the_graph_saves_too(tmp_path: Path) -> None:
    """The graph's own save node writes a checkpoint that the graph's own restore node reads."""
    model = make_sequential()
    save_model(model, tmp_path / "model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        saver = meta_graph.saver_def
        session.run(saver.save_tensor_name, {saver.filename_tensor_name: str(tmp_path / "again")})
    before = tf.train.load_checkpoint(str(tmp_path / "model" / "variables" / "variables"))
    after = tf.train.load_checkpoint(str(tmp_path / "again"))
    names = [name for name in after.get_variable_to_shape_map() if "CHECKPOINTABLE" not in name]
    assert len(names) >= len(model.weights)
    for name in names:
        np.testing.assert_array_equal(after.get_tensor(name), before.get_tensor(name))


_FRESH = """
import sys
import numpy as np
import tensorflow as tf

endpoint = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
np.save(sys.argv[2], endpoint(features=tf.constant(np.load(sys.argv[3])))["scores"])
"""


def test_a_process_without_our_code_serves_the_model(tmp_path: Path) -> None:
    model = make_sequential()
    save_model(model, tmp_path / "model")
    np.save(tmp_path / "inputs.npy", make_inputs(model, 4))
    arguments = [str(tmp_path / name) for name in ("model", "outputs.npy", "inputs.npy")]
    program = "import sys; sys.modules['exporter'] = sys.modules['keras'] = sys.modules['h5py'] = None\n"
    subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(_FRESH), *arguments], check=True, cwd=tmp_path, timeout=1500
    )
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), model(make_inputs(model, 4)), rtol=1e-5)
