"""Declared endpoints: what they take and give, what is refused, and that they train on as the model itself does."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from exporter import ExportConfig, ProofError, UsageError, export, load_model
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Check
from exporter.config import Batch, SignatureConfig, TensorConfig, VerifyConfig, VerifyMode
from exporter.exporting.limits import check_limits
from exporter.models.endpoints.building import build_endpoints, kept_for_endpoints
from exporter.models.endpoints.declarations import check_declarations
from exporter.models.training.steps import preserve_model
from exporter.saving.contents import Endpoint, Omission, Tensor
from exporter.saving.state.collecting import collect_state
from exporter.transforms import takes
from exporter.verification.inputs import prepare_inputs

# One process loads the artifacts of this file once.
pytestmark = pytest.mark.xdist_group("endpoints")

GRADES = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["good", "bad"], [1.0, -1.0]), 0.0)


class Shift(keras.layers.Layer):
    """Adds a trained number, and in training a random one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(5)

    def build(self, shape: Any) -> None:
        self.amount = self.add_weight(shape=(), name="amount", initializer="ones")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            return inputs + self.amount + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)
        return inputs + self.amount


class Judge(keras.Model):
    """Takes a dict with a list, and has methods of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = keras.layers.Dense(4, activation="gelu")
        self.shift = Shift()
        self.drop = keras.layers.Dropout(0.5)
        self.scores = keras.layers.Dense(3)
        self.factor = tf.Variable(2.0, trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        features = self.shift(self.hidden(inputs["features"]), training=training)
        return {"scores": self.scores(self.drop(features, training=training)) + inputs["extra"][0], "hidden": features}

    def embed(self, inputs: Any) -> Any:
        return self.hidden(inputs["features"])

    def grade(self, words: Any) -> Any:
        return {"grade": GRADES.lookup(words)}

    def count(self, words: Any) -> Any:
        return {"count": words.row_lengths(), "upper": tf.strings.upper(words)}

    def blend(self, parts: Any, weight: Any) -> Any:
        return weight[:, None] * parts["first"] + parts["others"][0]

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="rows"), tf.TensorSpec([], tf.float32)])
    def scale(self, rows: Any, by: Any) -> Any:
        return rows * by * self.factor


def make_data(size: int = 12) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    inputs = {
        "features": generator.standard_normal((size, 4), np.float32),
        "extra": [generator.standard_normal((size, 3), np.float32)],
    }
    return inputs, {"scores": generator.integers(0, 3, size)}


def make_judge() -> Any:
    keras.utils.set_random_seed(1)
    model = Judge(name="judge")
    model.compile("adam", {"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    inputs, targets = make_data()
    model.fit(inputs, targets, batch_size=4, verbose=0)
    return model


def make_small(compiled: bool = True) -> Any:
    model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(3, name="scores")], name="small")
    if compiled:
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


SIGNATURES = {
    "serving_default": SignatureConfig(),
    "renamed": SignatureConfig(batch=Batch.DYNAMIC, outputs={"judgement": "scores"}),
    "pairs": SignatureConfig(batch=2, outputs=["scores"]),
    "train": SignatureConfig(method="train"),
    "evaluate": SignatureConfig(method="evaluate", inputs={"sample_weight": {}}),
    "reset_metrics": SignatureConfig(method="reset_metrics"),
    "embed": SignatureConfig(method="embed"),
    "scale": SignatureConfig(method="scale"),
    "grade": SignatureConfig(method="grade", inputs={"words": TensorConfig(shape=[None], dtype="string")}),
    "count": SignatureConfig(
        method="count", inputs={"words": TensorConfig(shape=[None, None], dtype="string", ragged_rank=1)}
    ),
    "blend": SignatureConfig(
        method="blend",
        batch=3,
        inputs={
            "parts": {
                "first": {"shape": [None, 2], "dtype": "float32"},
                "others": [{"shape": [None, 2], "dtype": "float32"}],
            },
            "weight": TensorConfig(shape=[None], dtype="float32"),
        },
    ),
}

DATA = {"features": Tensor((None, 4), "float32"), "extra_0": Tensor((None, 3), "float32")}
ENDPOINTS = {
    "serving_default": Endpoint(DATA, {"hidden": Tensor((None, 4), "float32"), "scores": Tensor((None, 3), "float32")}),
    "renamed": Endpoint(DATA, {"judgement": Tensor((None, 3), "float32")}),
    "pairs": Endpoint(
        {"features": Tensor((2, 4), "float32"), "extra_0": Tensor((2, 3), "float32")},
        {"scores": Tensor((2, 3), "float32")},
    ),
    "train": Endpoint(
        {**DATA, "y_scores": Tensor((None,), "int64")},
        {"loss": Tensor((), "float32")},
    ),
    "evaluate": Endpoint(
        {**DATA, "y_scores": Tensor((None,), "int64"), "sample_weight": Tensor((None,), "float32")},
        {"loss": Tensor((), "float32")},
    ),
    "reset_metrics": Endpoint({}, {"done": Tensor((), "bool")}),
    "embed": Endpoint(DATA, {"output_0": Tensor((None, 4), "float32")}),
    "scale": Endpoint(
        {"rows": Tensor((None, 4), "float32"), "by": Tensor((), "float32")}, {"output_0": Tensor((None, 4), "float32")}
    ),
    "grade": Endpoint({"words": Tensor((None,), "string")}, {"grade": Tensor((None,), "float32")}),
    "count": Endpoint(
        {"words_values": Tensor((None,), "string"), "words_row_splits": Tensor((None,), "int64")},
        {
            "count": Tensor((None,), "int64"),
            "upper_values": Tensor((None,), "string"),
            "upper_row_splits": Tensor((None,), "int64"),
        },
    ),
    "blend": Endpoint(
        {
            "parts_first": Tensor((3, 2), "float32"),
            "parts_others_0": Tensor((3, 2), "float32"),
            "weight": Tensor((3,), "float32"),
        },
        {"output_0": Tensor((3, 2), "float32")},
    ),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Receipt]:
    """A subclassed model with a layer of its own, dropout and Adam, exported with every kind of endpoint."""
    path = tmp_path_factory.mktemp("endpoints") / "judge"
    model = make_judge()
    return model, path, export(ExportConfig(model=model, filepath=str(path), signatures=SIGNATURES))


def test_the_file_declares_what_the_recipe_does(judged: tuple[Any, Path, Receipt]) -> None:
    assert judged[2].signatures == ENDPOINTS


def test_every_endpoint_is_proven(judged: tuple[Any, Path, Receipt]) -> None:
    checks = {check.name: check for check in judged[2].checks}
    assert all(check.passed for check in checks.values())
    assert checks["signatures"].detail == "names, shapes, dtypes of 11 endpoints"
    plain = "endpoint, tf.saved_model.load"
    moved = {"train": 20, "evaluate": 2, "reset_metrics": 2}
    assert {name: checks[name] for name in SIGNATURES} == {
        name: Check(name, True, "bit-equal", f"{plain}, {moved[name]} variables changed" if name in moved else plain)
        for name in SIGNATURES
    }


def test_a_model_server_accepts_every_endpoint(judged: tuple[Any, Path, Receipt]) -> None:
    content = saved_model_pb2.SavedModel.FromString((judged[1] / "saved_model.pb").read_bytes())
    signatures = content.meta_graphs[0].signature_def
    methods = {name: signatures[name].method_name for name in SIGNATURES}
    assert methods == dict.fromkeys(SIGNATURES, "tensorflow/serving/predict")


def read_state(loaded: Any) -> dict[str, Any]:
    return {path: np.array(variable) for path, variable in loaded.exporter.state.items()}


def test_the_loaded_endpoint_trains_on_as_fit_does(judged: tuple[Any, Path, Receipt]) -> None:
    model, path, _ = judged
    loaded = tf.saved_model.load(str(path))
    train, reset = loaded.signatures["train"], loaded.signatures["reset_metrics"]
    inputs, targets = make_data()
    for _ in range(2):
        reset()
        for start in range(0, 12, 4):
            rows = slice(start, start + 4)
            logs = train(
                features=tf.constant(inputs["features"][rows]),
                extra_0=tf.constant(inputs["extra"][0][rows]),
                y_scores=tf.constant(targets["scores"][rows]),
            )
    served = read_state(loaded)

    with preserve_model(model):
        history = model.fit(inputs, targets, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        trained = {path: np.array(variable) for path, variable in collect_state(model).items()}

    assert served.keys() == trained.keys()
    for path_of, expected in trained.items():
        assert np.array_equal(served[path_of], expected), path_of
    assert {name: float(value) for name, value in logs.items()} == {name: row[-1] for name, row in history.items()}


def test_a_nested_and_a_ragged_input_arrive_as_what_they_are(judged: tuple[Any, Path, Receipt]) -> None:
    endpoints = tf.saved_model.load(str(judged[1])).signatures
    blended = endpoints["blend"](
        parts_first=tf.ones([3, 2]), parts_others_0=tf.fill([3, 2], 5.0), weight=tf.constant([1.0, 2.0, 3.0])
    )
    assert blended["output_0"].numpy().tolist() == [[6.0, 6.0], [7.0, 7.0], [8.0, 8.0]]
    counted = endpoints["count"](
        words_values=tf.constant(["a", "b", "c"]), words_row_splits=tf.constant([0, 2, 2, 3], tf.int64)
    )
    assert counted["count"].numpy().tolist() == [2, 0, 1]
    assert counted["upper_values"].numpy().tolist() == [b"A", b"B", b"C"]


def test_a_table_of_the_callers_is_found(judged: tuple[Any, Path, Receipt]) -> None:
    grade = tf.saved_model.load(str(judged[1])).signatures["grade"]
    assert grade(words=tf.constant(["bad", "good", "?"]))["grade"].numpy().tolist() == [-1.0, 1.0, 0.0]


def test_a_model_that_lost_its_code_trains_on_through_endpoints(
    judged: tuple[Any, Path, Receipt], tmp_path: Path
) -> None:
    revived = load_model(judged[1])
    assert not isinstance(revived, Judge)
    receipt = export(
        ExportConfig(
            model=revived,
            filepath=str(tmp_path / "again"),
            signatures={name: SignatureConfig(method=name) for name in ("train", "evaluate", "reset_metrics")},
        )
    )
    checks = {check.name: check.detail for check in receipt.checks}
    assert checks["train"] == "endpoint, tf.saved_model.load, 20 variables changed"
    assert receipt.signatures["train"] == Endpoint(
        {**DATA, "y_output_0": Tensor((None,), "int64")}, {"loss": Tensor((), "float32")}
    )


def test_the_model_is_what_it_was(tmp_path: Path) -> None:
    """Tracing a training step builds the optimizer of a model that was never trained."""
    model = make_small()
    declared = {"train": SignatureConfig(method="train")}
    with kept_for_endpoints(model, declared):
        build_endpoints(model, declared)
        assert model.optimizer.built
    assert not model.optimizer.built
    assert not model._compile_metrics.built


# ---- tables and steps of a user's own


def make_words(generator: Any, count: int, make_next: Any, **arguments: Any) -> Any:
    return np.array(["good", "?", "fine", "bad"] * count, object)[:count]


COLORS = keras.layers.StringLookup(vocabulary=["good", "bad", "fine"], num_oov_indices=1)
WEIGHT = tf.Variable(3.0)


@takes("words", "string", examples=make_words)
def encode_by_file(words: Any) -> Any:
    """Uses a table that is made anew for every endpoint, from a file, and a variable of this module."""
    index = tf.lookup.TextFileIndex
    content = tf.lookup.TextFileInitializer(
        str(Path("grades.txt").absolute()), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
    )
    return tf.one_hot(tf.lookup.StaticHashTable(content, 3).lookup(words), 4) * WEIGHT


@takes("words", "string", examples=make_words)
def encode_by_layer(words: Any) -> Any:
    return tf.one_hot(COLORS(words), 4)


RECORD = {
    "_target_": "exporter.transforms.parse_examples",
    "features": {"features": {"shape": [4]}, "y": {"dtype": "int32"}},
}


def test_tables_and_variables_of_steps_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grades.txt").write_text("good\nfine\nbad\n")
    model = make_small()
    signatures = {
        "file": SignatureConfig(preprocess={"_target_": f"{__name__}.encode_by_file"}),
        "layer": SignatureConfig(preprocess=[{"_target_": f"{__name__}.encode_by_layer"}]),
        "train": SignatureConfig(method="train", preprocess=RECORD),
        "labelled": SignatureConfig(
            method="evaluate",
            batch=2,
            preprocess={"y": {"_target_": "exporter.transforms.cast", "dtype": "int32"}},
            inputs={"y": TensorConfig(dtype="uint8")},
        ),
    }
    config = ExportConfig(model=model, filepath=str(tmp_path / "model"), signatures=signatures)
    receipt = export(config)
    assert {check.name for check in receipt.checks if check.figure == "bit-equal"} >= signatures.keys()
    assert {name: dict(endpoint.inputs) for name, endpoint in receipt.signatures.items()} == {
        "file": {"words": Tensor((None,), "string")},
        "layer": {"words": Tensor((None,), "string")},
        "train": {"examples": Tensor((None,), "string")},
        "labelled": {"features": Tensor((2, 4), "float32"), "y": Tensor((2,), "uint8")},
    }
    written = (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert str(tmp_path).encode() not in written

    (tmp_path / "grades.txt").unlink()
    endpoints = tf.saved_model.load(str(tmp_path / "model")).signatures
    words = tf.constant(["fine", "?"])
    kernel, bias = (np.array(weight) for weight in model.weights)
    np.testing.assert_allclose(endpoints["file"](words=words)["scores"], 3 * kernel[[1, 3]] + bias, rtol=1e-6)
    np.testing.assert_allclose(endpoints["layer"](words=words)["scores"], kernel[[3, 0]] + bias, rtol=1e-6)

    (tmp_path / "grades.txt").write_text("good\nfine\nbad\n")
    export(dataclasses.replace(config, verify=VerifyConfig(mode=VerifyMode.NONE)))
    assert (tmp_path / "model" / "saved_model.pb").read_bytes() == written


def test_a_model_with_a_vocabulary_trains_through_an_endpoint() -> None:
    words = keras.Input((2,), dtype="string", name="words")
    encoded = keras.layers.StringLookup(vocabulary=["good", "bad"], output_mode="multi_hot")(words)
    model = keras.Model(words, keras.layers.Dense(1, name="score")(encoded))
    model.compile("sgd", "mean_squared_error")
    inputs, targets = np.array([["good", "bad"], ["bad", "?"]], object), np.ones((2, 1), np.float32)
    model.fit(tf.data.Dataset.from_tensors((inputs, targets)), shuffle=False, verbose=0)
    train = build_endpoints(model, {"train": SignatureConfig(method="train")})["train"].function
    for size in (1, 2):
        assert set(train(words=tf.constant(inputs[:size]), y=tf.constant(targets[:size]))) == {"loss"}


def test_steps_of_several_tensors_name_their_results() -> None:
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    model = keras.Model(
        [first, second], [keras.layers.Dense(3, name="a")(first), keras.layers.Dense(3, name="b")(second)]
    )
    top = {"_target_": "exporter.transforms.top_k", "k": 1}
    built = build_endpoints(
        model,
        {
            "one": SignatureConfig(postprocess={"b": [{"_target_": "exporter.transforms.softmax"}, top]}),
            "renamed": SignatureConfig(
                postprocess=[{"_target_": "exporter.transforms.rename", "names": {"score": "a"}}, top]
            ),
            "scaled": SignatureConfig(preprocess={"first": {"_target_": "exporter.transforms.rescale", "scale": 2}}),
        },
    )
    given = {name: set(endpoint.function.structured_outputs) for name, endpoint in built.items()}
    assert given == {"one": {"a", "b_classes", "b_scores"}, "renamed": {"classes", "scores"}, "scaled": {"a", "b"}}
    ones = tf.ones([2, 4])
    own = model([2 * ones, ones])
    scaled = built["scaled"].function(first=ones, second=ones)
    np.testing.assert_allclose(scaled["a"], own[0], rtol=1e-6)
    np.testing.assert_allclose(scaled["b"], own[1], rtol=1e-6)


# ---- what is shared


def list_calls(function: Any) -> set[str]:
    """Names the functions that a traced function calls."""
    return {
        node.attr["f"].func.name
        for node in function.graph.as_graph_def().node
        if node.op in ("PartitionedCall", "StatefulPartitionedCall")
    }


def test_endpoints_share_the_trace_of_their_method() -> None:
    step = {"_target_": "exporter.transforms.softmax"}
    built = build_endpoints(
        make_small(),
        {
            "logits": SignatureConfig(),
            "probabilities": SignatureConfig(postprocess=step),
            "scaled": SignatureConfig(preprocess={"_target_": "exporter.transforms.rescale", "scale": 2.0}),
            "pair": SignatureConfig(batch=2),
        },
    )
    calls = {name: list_calls(endpoint.function) for name, endpoint in built.items()}
    assert len(calls["logits"]) == 1
    assert calls["logits"] == calls["probabilities"] == calls["scaled"] == calls["pair"]


def test_a_training_step_is_traced_once_for_endpoints_and_for_revival(judged: tuple[Any, Path, Receipt]) -> None:
    content = saved_model_pb2.SavedModel.FromString((judged[1] / "saved_model.pb").read_bytes())
    losses = [
        function.signature.name
        for function in content.meta_graphs[0].graph_def.library.function
        if any("SparseSoftmaxCrossEntropy" in node.op for node in function.node_def)
    ]
    # Training, evaluation, and evaluation with weights: each for the size of the batches seen, and for any other.
    assert len(losses) == 6


# ---- what is refused


def refuse(model: Any, **declared: SignatureConfig) -> list[tuple[str, str]]:
    with pytest.raises(UsageError) as caught:
        build_endpoints(model, declared)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def test_every_fault_of_every_declaration_is_named() -> None:
    assert refuse(
        make_small(compiled=False),
        a=SignatureConfig(method="prdict"),
        b=SignatureConfig(method="train"),
        c=SignatureConfig(inputs={"pixels": {}, "features": TensorConfig(shape=[None], dtype="int32")}),
        d=SignatureConfig(outputs=["score"]),
        e=SignatureConfig(postprocess={"_target_": "exporter.transforms.top_k", "n": 3}),
        f=SignatureConfig(preprocess={"_target_": "exporter.transforms.no_such"}),
    ) == [
        (
            "signatures.a.method",
            "received 'prdict', and the model has no such method. Allowed: predict, train, evaluate, call, "
            "predict_step, train_step, test_step, reset_metrics; did you mean predict?",
        ),
        (
            "signatures.b.method",
            "received 'train', and the model is not compiled: it has no loss and no optimizer. Compile it where it is "
            "built, such as with `model.compile`, or leave the endpoint out.",
        ),
        ("signatures.c.inputs.pixels", "the model has no such input. Its inputs: features."),
        ("signatures.c.inputs.features.shape", "received [null], which does not fit the model's [null, 4]."),
        ("signatures.c.inputs.features.dtype", "received 'int32'. The model takes 'float32'."),
        ("signatures.d.outputs", "the model has no output 'score'. Its outputs: scores."),
        ("signatures.e.postprocess.n", "unknown key; allowed: k, labels"),
        ("signatures.e.postprocess.k", "missing; it has no default"),
        (
            "signatures.f.preprocess._target_",
            "'exporter.transforms.no_such' cannot be imported: there is no 'no_such' in exporter.transforms. The "
            "model's own: features float32 [null, 4] -> scores.",
        ),
    ]


KERASS_OWN = (
    *("save", "export", "save_weights", "load_weights", "to_json", "fit", "compile", "get_config", "build", "summary"),
    *(
        "from_config",
        "quantize",
        "compute_loss",
        "train_function",
        "add_weight",
        "set_weights",
        "add",
        "predict_on_batch",
    ),
)


@pytest.mark.parametrize("name", [*KERASS_OWN, "__reduce__", "__init__", "__class__", "__call__", "_hidden"])
def test_a_method_of_keras_that_does_more_than_compute_is_no_endpoint(name: str) -> None:
    model = Saver()
    model.build((None, 4))
    [(path, message)] = refuse(model, a=SignatureConfig(method=name))
    assert path == "signatures.a.method"
    assert message.startswith(("received '" + name, "received " + name))
    if not name.startswith("_"):
        assert message.partition("Allowed: ")[2].startswith(
            "predict, train, evaluate, call, predict_step, train_step, test_step, reset_metrics, twice"
        )
    assert model.calls == []


class Saver(keras.Model):
    """Has a method of its own, and replaces some of Keras's."""

    def __init__(self) -> None:
        super().__init__(name="saver")
        self.calls: list[str] = []

    def build(self, shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs + 1.0

    def twice(self, inputs: Any) -> Any:
        return inputs * 2.0

    def _hidden(self, inputs: Any) -> Any:
        self.calls.append("_hidden")
        return inputs

    def save(self, inputs: Any) -> Any:
        self.calls.append("save")
        return inputs


@pytest.mark.parametrize("name", ["call", "predict_step", "twice"])
def test_a_method_that_computes_is_an_endpoint(name: str) -> None:
    model = Saver()
    model(np.zeros((2, 4), np.float32))
    built = build_endpoints(model, {"a": SignatureConfig(method=name)})["a"]
    [output] = built.function(**{key: tf.ones((1, 4)) for key in built.function.structured_input_signature[1]}).values()
    assert output.numpy().tolist() == [[2.0] * 4]


def make_stateful() -> Any:
    return keras.Sequential(
        [keras.Input((7, 5), batch_size=4, name="steps"), keras.layers.LSTM(1, stateful=True, name="lstm")]
    )


REFUSED = {
    "batch of a stateful model": (
        make_stateful,
        SignatureConfig(batch=Batch.DYNAMIC),
        "signatures.serve.batch",
        "received dynamic, and the model takes steps for a batch of 4 only. The model's own: steps float32 [4, 7, 5] "
        "-> lstm.",
    ),
    "step that cannot run": (
        make_small,
        SignatureConfig(postprocess={"_target_": "exporter.transforms.top_k", "k": 4}),
        "signatures.serve.postprocess",
        "the step cannot run on scores float32 [null, 3]: `k` is 4. Expected a number from 1 to the 3 classes.",
    ),
    "step of one tensor": (
        make_judge,
        SignatureConfig(preprocess={"_target_": "exporter.transforms.rescale", "scale": 2}),
        "signatures.serve.preprocess",
        "the step cannot run on features float32 [null, 4], extra_0 float32 [null, 3]: AttributeError: 'dict' object "
        "has no attribute 'dtype'. It was given a mapping of 2 tensors; for one of them, write NAME: {_target_: ...}",
    ),
    "method that cannot be traced": (
        make_judge,
        SignatureConfig(method="hidden"),
        "signatures.serve",
        "'hidden' cannot be traced: TypeError: missing a required argument: 'inputs'. The model's own: no inputs.",
    ),
    "labels": (
        make_small,
        SignatureConfig(
            postprocess=[{"_target_": "exporter.transforms.top_k", "k": 1, "labels": ["a", "b"]}],
        ),
        "signatures.serve.postprocess[0]",
        "the step cannot run on scores float32 [null, 3]: `labels` names 2 classes, and the model tells 3 apart.",
    ),
    "dtype of a step": (
        make_small,
        SignatureConfig(preprocess={"_target_": "exporter.transforms.cast", "dtype": "int32"}),
        "signatures.serve.preprocess",
        "the steps make features int32. The method takes float32.",
    ),
    "shape of a step": (
        make_small,
        SignatureConfig(preprocess={"_target_": "tensorflow.reduce_sum"}),
        "signatures.serve.preprocess",
        "the steps make features []. The method takes [null, 4].",
    ),
    "output of a step": (
        make_small,
        SignatureConfig(postprocess={"_target_": "exporter.transforms.top_k", "k": 1}, outputs=["classes"]),
        "signatures.serve.outputs",
        "the model has no output 'classes'. Its outputs: scores. "
        "The model's own: features float32 [null, 4] -> scores.",
    ),
    "inputs of a users step": (
        make_small,
        SignatureConfig(
            preprocess={"_target_": "tensorflow.strings.to_number"}, inputs={"text": TensorConfig(dtype="string")}
        ),
        "signatures.serve.inputs.text.shape",
        "missing; only the model's own inputs have a default",
    ),
    "name of a step": (
        make_small,
        SignatureConfig(postprocess={"score": {"_target_": "exporter.transforms.softmax"}}),
        "signatures.serve.postprocess.score",
        "there is no such tensor. There are: scores.",
    ),
}


@pytest.mark.parametrize(("make", "declared", "path", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_the_model_is_refused(make: Any, declared: SignatureConfig, path: str, message: str) -> None:
    assert refuse(make(), serve=declared) == [(path, message)]


def test_outputs_are_chosen_before_the_steps_that_follow() -> None:
    inputs = keras.Input((4,), name="features")
    outputs = {name: keras.layers.Dense(3, name=name)(inputs) for name in ("likes", "views")}
    declared = SignatureConfig(
        outputs={"values": "views"}, postprocess={"_target_": "exporter.transforms.top_k", "k": 2}
    )
    built = build_endpoints(keras.Model(inputs, outputs), {"serve": declared})["serve"]
    assert set(built.function.structured_outputs) == {"classes", "scores"}


FORMS = {
    "method": (
        SignatureConfig(method="a b"),
        "method",
        "received a b; expected predict, train, evaluate or the name of a method",
    ),
    "batch": (SignatureConfig(batch=0), "batch", "received 0; expected dynamic or a number from 1 to 2^63-1"),
    "dtype": (
        SignatureConfig(inputs={"a": TensorConfig(dtype="float31")}),
        "inputs.a.dtype",
        "received float31; allowed: bool, string, float16, bfloat16, float32, float64, complex64, complex128, int8, "
        "int16, int32, int64, uint8, uint16, uint32, uint64; did you mean float32?",
    ),
    "key of a tensor": (
        SignatureConfig(inputs={"a": {"dtyp": "float32"}}),
        "inputs.a.dtyp",
        "received float32; expected a tensor {shape, dtype, ragged_rank}, or a mapping or list of tensors; did you "
        "mean dtype?",
    ),
    "size": (
        SignatureConfig(inputs={"a": TensorConfig(shape=[-1, 4])}),
        "inputs.a.shape",
        "received [-1, 4]; expected numbers from 0 to 2^63-1, or null",
    ),
    "ragged rank": (
        SignatureConfig(inputs={"a": TensorConfig(shape=[None, 4], ragged_rank=2)}),
        "inputs.a.ragged_rank",
        "received 2; expected a number from 1 to 1",
    ),
    "batch and shape": (
        SignatureConfig(batch=3, inputs={"a": TensorConfig(shape=[2, 4])}),
        "inputs.a.shape",
        "begins with 2, which contradicts batch=3; begin it with null",
    ),
    "name": (
        SignatureConfig(inputs={"a-b": {}}),
        "inputs.a-b",
        "'a-b' is no name of an input; expected letters, digits and underscores",
    ),
    "clash": (
        SignatureConfig(inputs={"a": {"b": {"dtype": "int32"}}, "a_b": {}}),
        "inputs.a_b",
        "would be served as 'a_b', and so would signatures.serve.inputs.a.b; rename one of them",
    ),
    "outputs": (SignatureConfig(outputs=["a", "a"]), "outputs", "names 'a' 2 times; expected each output once"),
    "step": (
        SignatureConfig(preprocess=["softmax"]),
        "preprocess[0]",
        "received softmax; expected a step {_target_: ...}, a list of steps, or a mapping name -> steps",
    ),
}


@pytest.mark.parametrize(("declared", "path", "message"), FORMS.values(), ids=FORMS.keys())
def test_what_is_wrong_in_itself_is_found_without_a_model(declared: SignatureConfig, path: str, message: str) -> None:
    [fault] = check_declarations({"serve": declared})
    assert (fault.path, fault.message) == (f"signatures.serve.{path}", message)


def test_the_checks_of_a_config_include_its_endpoints() -> None:
    config = ExportConfig(model=None, filepath="model", signatures={"serve": SignatureConfig(batch=-1)})
    assert [fault.path for fault in check_limits(config)] == ["signatures.serve.batch"]


# ---- what the proof asks


def parse_numbers(text: Any) -> Any:
    """Makes four numbers of words such as `1,2,3,4`."""
    return tf.reshape(tf.strings.to_number(tf.strings.split(text, ",").flat_values), [-1, 4])


def declare_text() -> SignatureConfig:
    return SignatureConfig(
        inputs={"text": TensorConfig(shape=[None], dtype="string")},
        preprocess={"_target_": f"{__name__}.parse_numbers"},
    )


def test_an_endpoint_without_examples_is_left_out(tmp_path: Path) -> None:
    receipt = export(
        ExportConfig(model=make_small(), filepath=str(tmp_path / "model"), signatures={"parse": declare_text()})
    )
    assert receipt.signatures["parse"].inputs == {"text": Tensor((None,), "string")}
    assert [entry for entry in receipt.left_out if entry.what == "proof of endpoint parse"] == [
        Omission(
            "proof of endpoint parse",
            "no example of its input 'text' can be made; name a file with an array of that name in `verify.data`, or "
            "decorate the function with exporter.transforms.takes",
            intended=True,
        )
    ]


def test_the_file_of_the_proof_gives_the_examples(tmp_path: Path) -> None:
    model = make_small()
    data = tmp_path / "data.npz"
    np.savez(data, features=np.ones((2, 4), np.float32), text=np.array(["1,2,3,4", "0,0,0,1"]))
    built = build_endpoints(model, {"parse": declare_text()})
    [endpoint] = prepare_inputs(model, VerifyConfig(data=str(data)), 0, built).endpoints
    assert [[array.tolist() for array in batch] for batch in endpoint.batches] == [[["1,2,3,4", "0,0,0,1"]]]


@pytest.mark.parametrize("name", ["train", "evaluate", "renamed", "pairs", "blend", "count", "scale"])
def test_the_batches_fit_the_endpoint(name: str) -> None:
    model = make_judge()
    built = build_endpoints(model, {name: SIGNATURES[name]})
    [endpoint] = prepare_inputs(model, VerifyConfig(), 0, built).endpoints
    fixed = {"pairs": 1, "blend": 1}
    assert len(endpoint.batches) == fixed.get(name, 3)
    for batch in endpoint.batches:
        for leaf, array in zip(endpoint.inputs.leaves, batch, strict=True):
            assert tf.TensorShape(leaf.shape).is_compatible_with(array.shape), leaf
    assert endpoint.moves_state is (name not in ("renamed", "pairs"))


class Forgetful(keras.Model):
    """Has a method that depends on what no file holds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scores = keras.layers.Dense(2)
        self.bonus = 0.0

    def call(self, inputs: Any) -> Any:
        return self.scores(inputs)

    def reward(self, inputs: Any) -> Any:
        return self.scores(inputs) + self.bonus

    def raise_bias(self) -> None:
        self.scores.bias.assign_add([self.bonus, self.bonus])


def make_forgetful(bonus: float) -> Forgetful:
    model = Forgetful(name="forgetful")
    model(np.ones((1, 3), np.float32))
    model.bonus = bonus
    return model


def test_methods_are_called_as_users_call_them(judged: tuple[Any, Path, Receipt]) -> None:
    """Beside the endpoints that use them; what each takes and gives may be nested, ragged or a text."""
    _, _, receipt = judged
    checks = {check.name: check for check in receipt.checks if check.name.startswith("method ")}
    own = ("reset_metrics", "embed", "scale", "grade", "count", "blend")
    assert {name: (check.passed, check.figure) for name, check in checks.items()} == {
        f"method {name}": (True, "bit-equal") for name in own
    }
    assert checks["method embed"].detail == "model.embed, eager"


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        pytest.param("reward", r"largest difference 0\.5; model\.reward, eager", id="answers"),
        pytest.param("raise_bias", r"of 1 tensor, 1 changed; layers/dense/vars/1", id="changes_state"),
    ],
)
def test_a_method_that_does_otherwise_is_no_same_model(method: str, fault: str, tmp_path: Path) -> None:
    signatures = {"own": SignatureConfig(method=method)}
    export(ExportConfig(model=make_forgetful(0.0), filepath=str(tmp_path / "same"), signatures=signatures))
    with pytest.raises(ProofError, match=rf"1 of \d+ checks failed.*\n  method {method}: {fault}"):
        export(ExportConfig(model=make_forgetful(0.5), filepath=str(tmp_path / "other"), signatures=signatures))
    assert not (tmp_path / "other").exists()


def test_a_method_that_only_the_object_has_is_said_to_be_gone(tmp_path: Path) -> None:
    model = make_small(compiled=False)
    model.double = lambda inputs: model(inputs) * 2
    receipt = export(
        ExportConfig(
            model=model, filepath=str(tmp_path / "model"), signatures={"double": SignatureConfig(method="double")}
        )
    )
    why = "the model that is loaded has no such method: its code is not available there; the endpoint holds it"
    assert Omission("method double", why) in receipt.left_out
