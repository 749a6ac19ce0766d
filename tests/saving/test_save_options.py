"""Each of the eleven `SaveOptions`, by what it makes of the artifact."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import custom_operation
import keras
import numpy as np
import pytest
import tensorflow as tf

import exporter
from exporter import load_model, save_model
from exporter.saving.graph.endpoints import read_meta_graph

SaveOptions = tf.saved_model.SaveOptions
BATCH = np.array([[0.5, 1.0, 1.5, 2.0]], np.float32)


@keras.saving.register_keras_serializable(package="options")
class Watched(keras.layers.Layer):
    """Asserts, checks for numbers, prints, and has a gradient of its own: three times the real one."""

    def call(self, inputs: Any) -> Any:
        tf.debugging.assert_less(tf.reduce_max(inputs), 1e6)
        checked = tf.debugging.check_numerics(inputs, "not a number")
        tf.print("seen", tf.shape(checked)[0], output_stream=sys.stderr)
        return triple_gradient(checked)


@tf.custom_gradient
def triple_gradient(x: Any) -> Any:
    return tf.identity(x), lambda upstream: 3 * upstream


@keras.saving.register_keras_serializable(package="options")
class Copied(keras.layers.Layer):
    """Passes its input through an operation that is not TensorFlow's."""

    def call(self, inputs: Any) -> Any:
        return custom_operation.copy(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def make_model(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((4,), name="features"), *layers, keras.layers.Dense(2, name="scores")])


def save(path: Path, model: keras.Model | None = None, signatures: Any = None, **options: Any) -> Any:
    """Saves a model with options and gives the graph that was written."""
    save_model(model or make_model(), path, signatures=signatures, options=SaveOptions(**options))
    return read_meta_graph(path)


def list_operations(meta_graph: Any) -> Iterator[str]:
    for nodes in (meta_graph.graph_def.node, *(each.node_def for each in meta_graph.graph_def.library.function)):
        yield from (node.op for node in nodes)


def list_files(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def make_endpoint(model: keras.Model) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="features")])
    def judge(features: Any) -> dict[str, Any]:
        return {"scores": model(features)}

    return judge


class TestNamespaceWhitelist:
    REFUSED = (
        "The model uses custom operations, which whoever loads the artifact must have registered first: "
        "Exporter>Copy (in {place}). If that is meant, allow their namespaces:\n"
        "  in a recipe:          options: {{namespace_whitelist: [{names}]}}\n"
        "  on the command line:  'options.namespace_whitelist=[{typed}]'\n"
        "  in Python:            tf.saved_model.SaveOptions(namespace_whitelist={listed})"
    )

    def test_what_is_listed_is_saved(self, tmp_path: Path) -> None:
        model = make_model(Copied())
        meta_graph = save(tmp_path / "model", model, namespace_whitelist=["Exporter"])
        assert "Exporter>Copy" in set(list_operations(meta_graph))
        np.testing.assert_array_equal(load_model(tmp_path / "model")(BATCH), model(BATCH))

    def test_none_allows_all_as_in_tensorflow(self, tmp_path: Path) -> None:
        save_model(make_model(Copied()), tmp_path / "model")
        assert "Exporter>Copy" in set(list_operations(read_meta_graph(tmp_path / "model")))

    @pytest.mark.parametrize(
        ("allowed", "names", "typed", "listed"),
        [
            pytest.param([], "Exporter", "Exporter", "['Exporter']", id="empty"),
            pytest.param(["Addons"], "Addons, Exporter", "Addons,Exporter", "['Addons', 'Exporter']", id="other"),
        ],
    )
    def test_what_is_not_listed_is_refused_with_the_line_to_add(
        self, tmp_path: Path, allowed: list[str], names: str, typed: str, listed: str
    ) -> None:
        with pytest.raises(exporter.ModelError) as caught:
            save(tmp_path / "model", make_model(Copied()), namespace_whitelist=allowed)
        assert str(caught.value) == self.REFUSED.format(
            place="serving_default", names=names, typed=typed, listed=listed
        )
        assert list(tmp_path.iterdir()) == []

    def test_it_is_found_in_a_function_that_a_function_calls(self, tmp_path: Path) -> None:
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def outer(x: Any) -> Any:
            return tf.cond(tf.reduce_sum(x) > 0, lambda: custom_operation.copy(x), lambda: x)

        model = make_model()
        model.outer = outer
        with pytest.raises(exporter.ModelError) as caught:
            save(tmp_path / "model", model, namespace_whitelist=[])
        assert "Exporter>Copy (in outer)" in str(caught.value)


def test_debug_info_is_written_and_names_this_file(tmp_path: Path) -> None:
    save(tmp_path / "with", make_model(Watched()), save_debug_info=True)
    save(tmp_path / "without", make_model(Watched()))
    name = "debug/saved_model_debug_info.pb"
    assert list_files(tmp_path / "with") - list_files(tmp_path / "without") == {name}
    assert Path(__file__).name.encode() in (tmp_path / "with" / name).read_bytes()


@pytest.mark.parametrize("kind", ["tf.function", "concrete function", "list of concrete functions"])
def test_an_alias_names_a_function_of_the_graph(tmp_path: Path, kind: str) -> None:
    model = make_model()
    endpoint = make_endpoint(model)
    concrete = endpoint.get_concrete_function()
    alias = {"tf.function": endpoint, "concrete function": concrete}.get(kind, [concrete])
    signature = endpoint if kind == "tf.function" else concrete
    meta_graph = save(tmp_path / "model", model, {"judge": signature}, function_aliases={"judgement": alias})
    aliases = meta_graph.meta_info_def.function_aliases
    assert set(aliases.values()) == {"judgement"}
    assert set(aliases) & {function.signature.name for function in meta_graph.graph_def.library.function}


def test_the_debug_stripper_removes_assertions_checks_and_prints(tmp_path: Path) -> None:
    model = make_model(Watched())
    checks = {"Assert", "CheckNumerics", "PrintV2"}
    for name in ("plain", "stripped"):
        meta_graph = save(tmp_path / name, model, experimental_debug_stripper=name == "stripped")
        assert set(list_operations(meta_graph)) & checks == (checks if name == "plain" else set())
        loaded = tf.saved_model.load(str(tmp_path / name))
        served = loaded.signatures["serving_default"](features=BATCH)["scores"]
        np.testing.assert_allclose(served, model(BATCH), rtol=1e-6)


def test_custom_gradients_are_kept_or_left_out(tmp_path: Path) -> None:
    model = make_model(Watched())
    for name in ("with", "without"):
        meta_graph = save(tmp_path / name, model, experimental_custom_gradients=name == "with")
        assert bool(meta_graph.graph_def.library.registered_gradients) == (name == "with")
    loaded = tf.saved_model.load(str(tmp_path / "with"))
    features = tf.constant(BATCH)
    with tf.GradientTape() as tape:
        tape.watch(features)
        score = tf.reduce_sum(loaded.signatures["serving_default"](features=features)["scores"])
    kernel = model.weights[0].numpy()
    np.testing.assert_allclose(tape.gradient(score, features), 3 * kernel.sum(axis=1, keepdims=True).T, rtol=1e-5)


def test_the_image_format_is_refused_in_the_words_of_tensorflow() -> None:
    """The limits of a recipe quote them."""
    with pytest.raises(ValueError, match=r"^The option `experimental_image_format` is disabled in OSS\.$"):
        SaveOptions(experimental_image_format=True)


@pytest.mark.parametrize("skip", [True, False], ids=["skipped", "kept"])
def test_the_saver_is_left_out_or_kept(tmp_path: Path, skip: bool) -> None:
    meta_graph = save(tmp_path / "model", experimental_skip_saver=skip)
    assert bool(meta_graph.saver_def.restore_op_name) == (not skip)
    assert ({"SaveV2", "RestoreV2"} <= set(list_operations(meta_graph))) == (not skip)


def test_files_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64), keras.layers.Dense(16)])
    limit = 1500
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=limit)
    save(tmp_path / "model", model, experimental_sharding_callback=policy)
    sizes = [file.stat().st_size for file in (tmp_path / "model" / "variables").glob("*.data-*")]
    assert len(sizes) > 2
    # The limit is for tensors: the checkpoint's object graph is one text, whose file is as large as it must be.
    assert sorted(sizes)[-2] <= limit
    for expected, received in zip(model.weights, load_model(tmp_path / "model").weights, strict=True):
        np.testing.assert_array_equal(expected, received)


def test_extra_tags_name_the_graph(tmp_path: Path) -> None:
    model = make_model()
    meta_graph = save(tmp_path / "model", model, extra_tags=["gpu", "nightly"])
    assert list(meta_graph.meta_info_def.tags) == ["serve", "gpu", "nightly"]
    loaded = tf.saved_model.load(str(tmp_path / "model"), tags=["serve", "gpu", "nightly"])
    np.testing.assert_allclose(loaded.signatures["serving_default"](features=BATCH)["scores"], model(BATCH), rtol=1e-6)
    np.testing.assert_array_equal(load_model(tmp_path / "model")(BATCH), model(BATCH))


# On several devices and machines: TensorFlow's devices are fixed when it starts, so this has a process of its own.

_DISTRIBUTED = """
    import os, socket, sys
    from pathlib import Path
    import keras
    import numpy as np
    import tensorflow as tf
    from exporter import ArgumentError, load_model, save_model
    from exporter.saving.graph.endpoints import read_meta_graph

    folder = Path(sys.argv[1])
    SaveOptions = tf.saved_model.SaveOptions


    def save(name, model, **options):
        save_model(model, folder / name, options=SaveOptions(**options))
        for expected, received in zip(model.get_weights(), load_model(folder / name).get_weights(), strict=True):
            np.testing.assert_array_equal(expected, received)
        return read_meta_graph(folder / name)


    def find_devices(meta_graph):
        return {node.device for node in meta_graph.graph_def.node if node.op == "VarHandleOp"}


    def find_components(meta_graph):
        nodes = [node.variable for node in meta_graph.object_graph_def.nodes if node.HasField("variable")]
        return {part.device for node in nodes for part in node.experimental_distributed_variable_components}


    def make_model(first, second):
        inputs = keras.Input((4,))
        with tf.device(first):
            hidden = keras.layers.Dense(3)(inputs)
        with tf.device(second):
            return keras.Model(inputs, keras.layers.Dense(2)(hidden))


    cpu = "/job:localhost/replica:0/task:0/device:CPU:"
    [device] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    model = make_model("/CPU:0", "/CPU:1")
    assert find_devices(save("none", model)) == {""}
    assert find_devices(save("devices", model, experimental_variable_policy="save_variable_devices")) == {
        cpu + "0",
        cpu + "1",
    }
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        mirrored = make_model(None, None)
    assert find_components(save("mirrored", mirrored)) == set()
    expanded = save("expanded", mirrored, experimental_variable_policy="expand_distributed_variables")
    assert find_components(expanded) == {cpu + "0", cpu + "1"}

    places = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            places.append(f"127.0.0.1:{free.getsockname()[1]}")
    cluster = tf.train.ClusterSpec({"worker": places})
    servers = [tf.distribute.Server(cluster, job_name="worker", task_index=task) for task in range(2)]
    tf.config.experimental_connect_to_cluster(cluster, job_name="chief")
    model = make_model("/job:worker/task:0/device:CPU:0", "/job:worker/task:1/device:CPU:0")
    tasks = {variable.value.device[:28] for variable in model.weights}
    assert tasks == {"/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1"}


    def count_files(name):
        return len(list((folder / name / "variables").glob("*.data-*")))


    save("whole", model)
    save("by_task", model, experimental_sharding_callback=tf.train.experimental.ShardByTaskPolicy())
    save("by_worker", model, experimental_io_device="/job:worker/task:1/device:CPU:0")
    # A file for each worker, and one for what is on the chief: the checkpoint's object graph.
    assert [count_files(name) for name in ("whole", "by_task", "by_worker")] == [1, 3, 3]
    try:
        save("nowhere", model, experimental_io_device="/job:worker/task:2")
    except ArgumentError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)  # the servers have no way to stop
"""


def test_placement_on_devices_and_machines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_DISTRIBUTED), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert (done.returncode, done.stdout) == (
        0,
        "`options` cannot be used.\n"
        "`experimental_io_device`: received '/job:worker/task:2', and there is no such device here. Devices: "
        "/job:chief/replica:0/task:0/device:CPU:0, /job:chief/replica:0/task:0/device:CPU:1, "
        "/job:worker/replica:0/task:0/device:CPU:0, /job:worker/replica:0/task:1/device:CPU:0.\n",
    ), done.stderr


# What is refused


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        pytest.param({"extra_tags": "gpu"}, ["`extra_tags`: received 'gpu'; expected a list of texts."], id="text"),
        pytest.param(
            {"extra_tags": ["serve"]},
            ["`extra_tags`: received 'serve', which every SavedModel has; leave it out."],
            id="serve",
        ),
        pytest.param(
            {"extra_tags": ["a", "b", "a"]},
            ["`extra_tags`: received 'a' more than once; once is enough."],
            id="repeated",
        ),
        pytest.param({"extra_tags": [""]}, ["`extra_tags`: received an empty tag; leave it out."], id="empty"),
        pytest.param(
            {"function_aliases": {"judge": "serving_default"}},
            [
                "`function_aliases`: received 'judge': 'serving_default'; expected a name and a tf.function or a "
                "concrete function."
            ],
            id="alias of a name",
        ),
        pytest.param(
            {"experimental_io_device": "job localhost", "function_aliases": ["judge"]},
            [
                "`function_aliases`: received ['judge']; expected a dict of names and functions.",
                "`experimental_io_device`: received 'job localhost'; expected a device such as /job:localhost or "
                "/job:worker/task:1/device:CPU:0.",
            ],
            id="two faults",
        ),
    ],
)
def test_what_tensorflow_would_stumble_on_is_refused(
    tmp_path: Path, options: dict[str, Any], faults: list[str]
) -> None:
    with pytest.raises(exporter.ArgumentError) as caught:
        save(tmp_path / "model", **options)
    assert str(caught.value) == "\n".join(["`options` cannot be used.", *faults])
    assert list(tmp_path.iterdir()) == []
