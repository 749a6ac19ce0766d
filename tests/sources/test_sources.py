"""Each source makes the model that it says, and says what is wrong where it cannot."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from exporter import sources
from exporter.errors import ArgumentError, ArtifactError, ExporterError, ExportError, NotAModelError, UsageError
from exporter.models.building import build_model
from exporter.text.failures import find_own_place, locate_definition

IMAGE = [32, 32, 3]


class Double(keras.layers.Layer):
    """A layer of the user's own, which is not registered with Keras."""

    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def make_small_model() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((3,), name="numbers"), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="scores")],
        name="small",
    )
    model.compile("adam", "mean_squared_error")
    return model


def make_with_password(password: str) -> keras.Model:
    return make_small_model()


def make_custom_model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="scores"), Double(name="double")], name="own"
    )


def make_reporting_model(units: int, report: Callable[[str], None]) -> keras.Model:
    report("half done")
    report(f"read {units} units")
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])


def make_from_nested(layer: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layer])


def make_nothing() -> None:
    make_small_model()


def make_pair() -> tuple[keras.Model, str]:
    return make_small_model(), "history"


def make_class() -> Any:
    return keras.Model


def make_tensorflow_module() -> tf.Module:
    return tf.Module(name="stranger")


def fail_to_make() -> keras.Model:
    raise ConnectionResetError("the data server went away")


def fingerprint(model: keras.Model) -> str:
    """Hash every weight, every optimizer variable and every seed generator of a model."""
    variables = [*model.variables, *model.optimizer.variables]
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(variable.numpy()).tobytes() for variable in variables)
    ).hexdigest()


def count_inputs(model: keras.Model) -> np.ndarray:
    return np.linspace(-1, 1, 3 * 5, dtype=np.float32).reshape(5, 3)


def predict(model: keras.Model) -> np.ndarray:
    return np.asarray(model(count_inputs(model), training=False))


class TestDigitsData:
    def test_is_the_file_that_its_readme_describes(self) -> None:
        folder = files("exporter") / "data"
        data = (folder / "digits.npz").read_bytes()
        readme = (folder / "README.md").read_text(encoding="utf-8")
        with np.load(str(folder / "digits.npz")) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        assert hashlib.sha256(data).hexdigest() == "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
        for content in (data, images.tobytes(), labels.tobytes()):
            assert hashlib.sha256(content).hexdigest() in readme
        assert (images.shape, images.dtype, images.min(), images.max()) == ((1797, 8, 8), np.uint8, 0, 16)
        assert (labels.shape, labels.dtype) == ((1797,), np.uint8)
        assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        licence = (folder / "LICENSE-digits.txt").read_text(encoding="utf-8")
        assert "https://creativecommons.org/licenses/by/4.0/legalcode" in licence
        assert "E. Alpaydin and C. Kaynak" in licence

    def test_is_split_the_same_way_every_time(self) -> None:
        (images, labels), (held_out_images, held_out_labels) = sources.digits_data()
        assert (images.shape, images.dtype, labels.shape, labels.dtype) == (
            (1437, 8, 8, 1),
            np.dtype(np.float32),
            (1437,),
            np.dtype(np.int64),
        )
        assert (held_out_images.shape, held_out_labels.shape) == ((360, 8, 8, 1), (360,))
        assert (images.min(), images.max()) == (0.0, 1.0)
        assert sorted({*np.unique(labels), *np.unique(held_out_labels)}) == list(range(10))
        # The first and every fifth scan after it: no scan is in both parts, and none is left out.
        with np.load(str(files("exporter") / "data" / "digits.npz")) as arrays:
            assert np.array_equal(held_out_images[..., 0] * 16, arrays["images"][::5])
            assert np.array_equal(images[:4, ..., 0] * 16, arrays["images"][1:5])
            assert np.array_equal(held_out_labels, arrays["labels"][::5])


class TestDigits:
    @pytest.mark.parametrize("seed", range(5), ids=lambda seed: f"seed{seed}")
    def test_reads_the_held_out_scans(self, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        lines: list[str] = []
        model = sources.digits(report=lines.append)
        _, (images, labels) = sources.digits_data()
        accuracy = float((np.asarray(model(images, training=False)).argmax(axis=-1) == labels).mean())
        assert accuracy > 0.95
        assert [line.partition(":")[0] for line in lines[:-1]] == [f"epoch {epoch} of 6" for epoch in range(1, 7)]
        assert lines[-1] == (
            "1,797 scans of handwritten digits, 1,437 to train and 360 held out; "
            f"accuracy {accuracy:.3f} on the held-out scans"
        )

    def test_holds_every_kind_of_state(self) -> None:
        keras.utils.set_random_seed(0)
        model = sources.digits(epochs=1)
        assert [tensor.name for tensor in model.inputs] == ["pixels"]
        assert model.layers[-1].name == "probabilities"
        assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 10))
        assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("float32", "float32")
        assert int(model.optimizer.iterations) == 45
        slots = [variable for variable in model.optimizer.variables if "momentum" in variable.path]
        assert len(slots) == len(model.trainable_variables)
        statistics = model.get_layer("strokes_normalization").moving_mean
        assert np.any(np.asarray(statistics))
        paths = [variable.path for variable in model.non_trainable_variables]
        assert sum(path.endswith("seed_generator_state") for path in paths) == 1
        assert model.loss == "sparse_categorical_crossentropy"

    def test_the_seed_decides_every_bit_in_this_process_and_in_another(self) -> None:
        script = (
            "import keras, test_sources\nfrom exporter import sources\nkeras.utils.set_random_seed(7)\n"
            "print(test_sources.fingerprint(sources.digits(epochs=1)))"
        )
        other = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment(), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        )
        fingerprints = []
        for seed in (7, 7, 8):
            keras.utils.set_random_seed(seed)
            fingerprints.append(fingerprint(sources.digits(epochs=1)))
        assert fingerprints[0] == fingerprints[1] == other.stdout.strip()
        assert fingerprints[2] != fingerprints[0]

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            pytest.param({"epochs": 0}, "epochs=0", id="epochs"),
            pytest.param({"batch_size": -1}, "batch_size=-1", id="batch_size"),
        ],
    )
    def test_refuses_no_training(self, arguments: dict[str, Any], name: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            sources.digits(**arguments)
        key = name.partition("=")[0]
        assert str(caught.value) == (
            f"The digits cannot be trained with {name}. Expected at least 1. Set it with `model.{key}=1` or more."
        )


class TestFile:
    @pytest.mark.parametrize("name", ["stock.keras", "stock.h5", "stock.hdf5"], ids=["keras", "h5", "hdf5"])
    def test_opens_what_keras_wrote(self, tmp_path: Path, name: str) -> None:
        original = make_small_model()
        original.fit(np.ones((8, 3)), np.zeros((8, 2)), verbose=0)
        save_with_keras(original, tmp_path / name)
        loaded = sources.file(str(tmp_path / name))
        assert np.array_equal(predict(loaded), predict(original))
        assert int(loaded.optimizer.iterations) == 1
        assert len(loaded.optimizer.variables) == len(original.optimizer.variables)

    def test_leaves_the_model_uncompiled_when_asked(self, tmp_path: Path) -> None:
        make_small_model().save(tmp_path / "stock.keras")
        assert not sources.file(str(tmp_path / "stock.keras"), compile=False).compiled

    @pytest.mark.parametrize(
        "custom_objects",
        [
            pytest.param({"Double": f"{__name__}.Double"}, id="mapping"),
            pytest.param([f"{__name__}.Double"], id="list"),
        ],
    )
    @pytest.mark.parametrize("name", ["own.keras", "own.h5"], ids=["keras", "h5"])
    def test_finds_custom_objects_by_their_dotted_names(self, tmp_path: Path, name: str, custom_objects: Any) -> None:
        original = make_custom_model()
        save_with_keras(original, tmp_path / name)
        loaded = sources.file(str(tmp_path / name), custom_objects=custom_objects)
        assert np.array_equal(predict(loaded), predict(original))

    def test_refuses_code_inside_the_file(self, tmp_path: Path) -> None:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda numbers: numbers * 2)])
        model.save(tmp_path / "code.keras")
        with pytest.raises(ExportError):
            sources.file(str(tmp_path / "code.keras"))
        assert np.array_equal(
            predict(sources.file(str(tmp_path / "code.keras"), safe_mode=False)), 2 * count_inputs(model)
        )

    def test_names_the_nearest_file(self, tmp_path: Path) -> None:
        make_small_model().save(tmp_path / "model.keras")
        with pytest.raises(ArgumentError) as caught:
            sources.file(str(tmp_path / "modle.keras"))
        missing = str(tmp_path / "modle.keras")
        assert str(caught.value) == (
            f"There is no file {missing!r} (looked for {missing!r}). Did you mean 'model.keras'? "
            "Set `model.filepath` to a path that exists."
        )

    @pytest.mark.parametrize(
        ("dotted_name", "message"),
        [
            pytest.param(
                "Double",
                "'Double' is not a dotted name. Expected a module and a name inside it, such as "
                "my_package.layers.Attention.",
                id="no-module-given",
            ),
            pytest.param(
                "no_such_package.layers.Double",
                "'no_such_package.layers.Double' cannot be imported: there is no module 'no_such_package'. Install it, "
                "run from the directory that holds it, or add that directory to PYTHONPATH.",
                id="no-such-module",
            ),
            pytest.param(
                f"{__name__}.Duoble",
                f"'{__name__}.Duoble' cannot be imported: there is no 'Duoble' in {__name__}. Did you mean 'Double'?",
                id="no-such-name",
            ),
            pytest.param(
                "broken_sources.Layer",
                "'broken_sources.Layer' cannot be imported: broken_sources needs the module 'absent_package', which "
                "is not "
                "installed. Install it in the environment that runs the export.",
                id="its-own-import-is-missing",
            ),
        ],
    )
    def test_says_why_a_dotted_name_is_wrong(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dotted_name: str, message: str
    ) -> None:
        (tmp_path / "broken_sources.py").write_text("import absent_package\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        make_small_model().save(tmp_path / "model.keras")
        with pytest.raises(ArgumentError) as caught:
            sources.file(str(tmp_path / "model.keras"), custom_objects=[dotted_name])
        assert str(caught.value) == message


class TestApplication:
    def test_builds_the_network_that_is_named(self) -> None:
        model = sources.application("MobileNetV2", input_shape=IMAGE, classes=10)
        assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 10))
        assert not model.compiled
        assert sum("BatchNormalization" in type(layer).__name__ for layer in model.layers) == 52

    def test_compiles_with_names_and_configs(self) -> None:
        model = sources.application(
            "MobileNetV2",
            input_shape=IMAGE,
            classes=4,
            compile={
                "optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.5, "momentum": 0.9}},
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["acc", {"class_name": "SparseTopKCategoricalAccuracy", "config": {"k": 2}}],
                "jit_compile": False,
            },
        )
        assert type(model.optimizer).__name__ == "SGD"
        assert float(model.optimizer.learning_rate) == 0.5
        results = model.evaluate(np.zeros((2, 32, 32, 3)), np.array([0, 1]), verbose=0, return_dict=True)
        assert sorted(results) == ["acc", "loss", "sparse_top_k_categorical_accuracy"]

    @pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
    def test_reads_weights_from_a_file(self, tmp_path: Path, suffix: str) -> None:
        original = sources.application("MobileNetV2", input_shape=IMAGE, classes=3)
        path = tmp_path / f"network{suffix}"
        if suffix == ".weights.h5":
            original.save_weights(path)
        else:
            save_with_keras(original, path)
        loaded = sources.application("MobileNetV2", weights=str(path), input_shape=IMAGE, classes=3)
        for expected, received in zip(original.weights, loaded.weights, strict=True):
            assert np.array_equal(expected, received)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(
                {"name": "mobilenet_v2"},
                "There is no network 'mobilenet_v2' in keras.applications. "
                "Did you mean 'MobileNetV2' or 'MobileNet' or 'MobileNetV3Small'?",
                id="name",
            ),
            pytest.param(
                {"name": "InceptionV3", "input_shape": IMAGE, "classes": 5},
                "keras.applications.InceptionV3 does not take input_shape=(32, 32, 3), classes=5: Input size must be "
                "at "
                "least 75x75; Received: input_shape=(32, 32, 3).",
                id="input_shape",
            ),
            pytest.param(
                {"name": "MobileNetV2", "weights": "imagenet", "classes": 5},
                "The imagenet weights of MobileNetV2 know 1000 classes, and classes=5 was asked for. Set "
                "`model.classes=1000`, or `model.weights=null` to train the network afresh.",
                id="imagenet-classes",
            ),
            pytest.param(
                {"name": "MobileNetV2", "weights": "/absent/network.h5"},
                "There is no file '/absent/network.h5' (looked for '/absent/network.h5'). Set `model.weights` to a "
                "path "
                "that exists.",
                id="weights-missing",
            ),
            pytest.param(
                {"name": "MobileNetV2", "input_shape": IMAGE, "compile": {"optimiser": "adam"}},
                "`model.compile.optimiser` is not an argument of keras.Model.compile. Did you mean 'optimizer'? "
                "Allowed: "
                "optimizer, loss, loss_weights, metrics, weighted_metrics, run_eagerly, steps_per_execution, "
                "jit_compile, "
                "auto_scale_loss.",
                id="compile-key",
            ),
            pytest.param(
                {"name": "MobileNetV2", "input_shape": IMAGE, "compile": {"optimizer": "adm"}},
                "`model.compile` is not something that Keras can compile with: Could not interpret optimizer "
                "identifier: "
                "adm. Give the Keras name, such as `adam`, or a config with class_name and config.",
                id="compile-optimizer",
            ),
            pytest.param(
                {"name": "MobileNetV2", "input_shape": IMAGE, "compile": {"loss": ["mes"]}},
                "`model.compile` is not something that Keras can compile with: Could not interpret loss identifier: "
                "mes. "
                "Give the Keras name, such as `adam`, or a config with class_name and config.",
                id="compile-loss",
            ),
        ],
    )
    def test_says_what_is_wrong(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            sources.application(**arguments)
        assert str(caught.value) == message

    def test_says_that_the_weights_are_of_another_network(self, tmp_path: Path) -> None:
        path = tmp_path / "small.weights.h5"
        make_small_model().save_weights(path)
        with pytest.raises(ArgumentError) as caught:
            sources.application("MobileNetV2", weights=str(path), input_shape=IMAGE, classes=2)
        message = str(caught.value)
        assert message.startswith(
            f"The weights in {str(path)!r} could not be read into the model 'mobilenetv2_1.00_32': "
        )
        assert message.endswith("Set `model.weights` to a file that was written for exactly this network.")

    def test_says_what_to_do_without_a_network_connection(self, tmp_path: Path) -> None:
        # Nothing listens on the discard port, so the download fails at once wherever the test runs.
        script = (
            "from exporter import sources\nfrom exporter.errors import ExportError\n"
            "try:\n    sources.application('MobileNetV2', weights='imagenet')\n"
            "except ExportError as error:\n    print(error)"
        )
        outcome = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **environment(),
                "https_proxy": "http://127.0.0.1:9",
                "KERAS_HOME": str(tmp_path),
                "PYTHONPATH": str(Path(sources.__file__).parents[2]),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        [message] = outcome.stdout.splitlines()
        assert "Downloading data from https" in outcome.stderr
        assert message.startswith(
            "The imagenet weights of MobileNetV2 could not be downloaded: URL fetch failure on https"
        )
        assert message.endswith(
            "Connect to the network once (Keras keeps the file in ~/.keras/models), set `model.weights` to the path "
            "of a "
            "weights file, or set `model.weights=null` for random start values."
        )


class TestArchitecture:
    @pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
    @pytest.mark.parametrize("config", ["to_json", "archive"])
    def test_joins_a_description_and_weights(self, tmp_path: Path, config: str, suffix: str) -> None:
        original = make_small_model()
        original.fit(np.ones((8, 3)), np.zeros((8, 2)), verbose=0)
        if config == "to_json":
            (tmp_path / "config.json").write_text(original.to_json(), encoding="utf-8")
        else:
            original.save(tmp_path / "whole.keras")
            zipfile.ZipFile(tmp_path / "whole.keras").extract("config.json", tmp_path)
        weights = tmp_path / f"model{suffix}"
        if suffix == ".weights.h5":
            original.save_weights(weights)
        else:
            save_with_keras(original, weights)
        loaded = sources.architecture(str(tmp_path / "config.json"), str(weights))
        assert np.array_equal(predict(loaded), predict(original))
        assert (loaded.loss, type(loaded.optimizer).__name__) == ("mean_squared_error", "Adam")

    def test_takes_another_compile_configuration(self, tmp_path: Path) -> None:
        config, weights = write_parts(make_small_model(), tmp_path)
        model = sources.architecture(config, weights, compile={"optimizer": "sgd", "loss": "mean_absolute_error"})
        assert (model.loss, type(model.optimizer).__name__) == ("mean_absolute_error", "SGD")

    def test_finds_custom_objects_by_their_dotted_names(self, tmp_path: Path) -> None:
        original = make_custom_model()
        config, weights = write_parts(original, tmp_path)
        model = sources.architecture(config, weights, custom_objects=[f"{__name__}.Double"])
        assert np.array_equal(predict(model), predict(original))

    def test_says_that_a_class_is_missing(self, tmp_path: Path) -> None:
        config, weights = write_parts(make_custom_model(), tmp_path)
        with pytest.raises(ArtifactError) as caught:
            sources.architecture(config, weights)
        assert str(caught.value) == (
            f"{config!r} cannot be built: The model's configuration cannot be rebuilt: Could not locate class "
            "'Double'. Import the module that defines it, register it with "
            "`@keras.saving.register_keras_serializable()`, or name it in `custom_objects`."
        )

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(
                "{",
                " is damaged: it is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
                "(char 1). Expected "
                "the text of `model.to_json()` or `model.to_yaml()`, or the config.json of a .keras archive.",
                id="not-json",
            ),
            pytest.param(
                "[1, 2]",
                " holds a list, not the description of a model. Expected the text of `model.to_json()` or "
                "`model.to_yaml()`, or the config.json of a .keras archive.",
                id="another-json",
            ),
            pytest.param(
                json.dumps(keras.saving.serialize_keras_object(keras.layers.Dense(2))),
                " holds a Dense, not the description of a model. Expected the text of `model.to_json()` or "
                "`model.to_yaml()`, or the config.json of a .keras archive.",
                id="a-layer",
            ),
        ],
    )
    def test_says_that_it_is_no_description(self, tmp_path: Path, content: str, message: str) -> None:
        _, weights = write_parts(make_small_model(), tmp_path)
        path = tmp_path / "other.json"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ArtifactError) as caught:
            sources.architecture(str(path), weights)
        assert str(caught.value) == f"{str(path)!r}{message}"

    @pytest.mark.parametrize("name", ["damaged.weights.h5", "damaged.keras", "other.json"])
    def test_says_that_a_file_holds_no_weights(self, tmp_path: Path, name: str) -> None:
        config, _ = write_parts(make_small_model(), tmp_path)
        path = tmp_path / name
        path.write_bytes(b"nothing to read")
        with pytest.raises(ArtifactError) as caught:
            sources.architecture(config, str(path))
        assert str(caught.value) == (
            f"{path} is neither an HDF5 file nor a .keras archive: it begins with b'nothing '. Expected a file that "
            "`save_model` or Keras wrote; the file may be damaged or incomplete."
        )

    def test_says_that_a_directory_is_no_file_of_weights(self, tmp_path: Path) -> None:
        config, _ = write_parts(make_small_model(), tmp_path)
        with pytest.raises(ArtifactError) as caught:
            sources.architecture(config, str(tmp_path))
        assert str(caught.value) == f"{tmp_path} is not a file. Give the path of a file that holds weights."


class TestBuildModel:
    def test_returns_a_live_model_as_it_is(self) -> None:
        model = make_small_model()
        lines: list[str] = []
        assert build_model(model, 0, lines.append) is model
        assert lines == ["Sequential 'small': 2 layers, 26 parameters; given as an object"]

    def test_the_seed_decides_the_start_values(self) -> None:
        target = {"_target_": f"{__name__}.make_small_model"}
        first, second, third = (build_model(target, seed) for seed in (3, 3, 4))
        assert np.array_equal(predict(first), predict(second))
        assert not np.array_equal(predict(first), predict(third))

    def test_a_model_that_stands_in_a_module_is_taken_and_seeded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("first_zoo", "second_zoo"):
            (tmp_path / f"{name}.py").write_text(
                f"from {__name__} import make_small_model\nmodel = make_small_model()\n"
            )
        monkeypatch.syspath_prepend(tmp_path)
        lines: list[str] = []
        first, again = (build_model({"_target_": "first_zoo.model"}, 3, lines.append) for _ in range(2))
        assert first is again
        assert lines[0] == "Sequential 'small': 2 layers, 26 parameters; from first_zoo.model"
        assert np.array_equal(predict(first), predict(build_model({"_target_": "second_zoo.model"}, 3)))
        with pytest.raises(
            ArgumentError, match=r"first_zoo\.model is a model and takes no arguments; received units\."
        ):
            build_model({"_target_": "first_zoo.model", "units": 3})

    def test_says_what_was_read(self, tmp_path: Path) -> None:
        path = str(tmp_path / "small.keras")
        make_small_model().save(path)
        lines: list[str] = []
        build_model({"_target_": "exporter.sources.file", "filepath": path, "compile": False}, 0, lines.append)
        assert lines == [f"Sequential 'small': 2 layers, 26 parameters; from exporter.sources.file(filepath={path})"]

    def test_says_nothing_of_the_arguments_of_a_function_of_your_own(self) -> None:
        lines: list[str] = []
        target = f"{__name__}.make_with_password"
        build_model({"_target_": target, "password": "sesame"}, 0, lines.append)
        assert lines == [f"Sequential 'small': 2 layers, 26 parameters; from {target}"]

    def test_hands_report_to_a_function_that_takes_it(self) -> None:
        lines: list[str] = []
        model = build_model({"_target_": f"{__name__}.make_reporting_model", "units": 6}, 0, lines.append)
        assert model.output_shape == (None, 6)
        assert lines == ["half done", "read 6 units"]

    def test_makes_what_is_nested(self) -> None:
        layer = {"_target_": "keras.layers.Dense", "units": 7}
        model = build_model({"_target_": f"{__name__}.make_from_nested", "layer": layer}, 0)
        assert model.output_shape == (None, 7)

    def test_names_an_error_inside_the_function(self) -> None:
        with pytest.raises(ExportError) as caught:
            build_model({"_target_": f"{__name__}.fail_to_make"}, 0)
        assert str(caught.value) == (
            f"{__name__}.fail_to_make raised ConnectionResetError: the data server went away "
            f"({find_own_place(caught.value.__cause__ or caught.value)})"
        )
        assert isinstance(caught.value.__cause__, ConnectionResetError)

    def test_lets_an_error_of_a_source_through(self) -> None:
        with pytest.raises(ArgumentError, match=r"^The digits cannot be trained with epochs=0\."):
            build_model({"_target_": "exporter.sources.digits", "epochs": 0}, 0)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            pytest.param(
                "make_nothing", "None. Expected a keras.Model. Let the function end with `return model`.", id="none"
            ),
            pytest.param(
                "make_pair",
                "an object of builtins.tuple. Expected a keras.Model. Let the function return only the model, or the "
                "model and a mapping of facts.",
                id="tuple",
            ),
            pytest.param(
                "make_class",
                "the class keras.src.models.model.Model. Expected a keras.Model. Name a function that makes an "
                "instance, "
                "builds it and returns it.",
                id="class",
            ),
            pytest.param(
                "make_tensorflow_module",
                "an object of tensorflow.python.module.module.Module. Expected a keras.Model. A tf.Module has no "
                "configuration that could be saved. Call it in a keras.layers.Layer, and that in a keras.Model, or "
                "save it "
                "with tf.saved_model.save.",
                id="tf-module",
            ),
            pytest.param("count_lines", "an object of builtins.int. Expected a keras.Model.", id="something-else"),
        ],
    )
    def test_says_what_was_returned_instead(self, function: str, message: str) -> None:
        with pytest.raises(NotAModelError) as caught:
            build_model({"_target_": f"{__name__}.{function}"}, 0)
        place = locate_definition(globals()[function])
        shown = f" ({place})" if place else ""
        assert str(caught.value) == f"`model._target_` {__name__}.{function}{shown} returned {message}"

    @pytest.mark.parametrize(
        ("model", "kind", "message"),
        [
            pytest.param(
                {"epochs": 3},
                UsageError,
                "model._target_: received None. Expected the dotted name of a function that returns a keras.Model, "
                "such as "
                "exporter.sources.digits.",
                id="no-target",
            ),
            pytest.param(
                {"_target_": "exporter.sources.digit"},
                ArgumentError,
                "'exporter.sources.digit' cannot be imported: there is no 'digit' in exporter.sources. "
                "Did you mean 'digits' or 'digits_data'?",
                id="wrong-target",
            ),
            pytest.param(
                None,
                NotAModelError,
                "`model` is None. Expected a keras.Model, or a mapping with `_target_`.",
                id="none",
            ),
        ],
    )
    def test_refuses_what_describes_no_model(self, model: Any, kind: type[ExporterError], message: str) -> None:
        with pytest.raises(kind) as caught:
            build_model(model, 0)
        assert str(caught.value) == message


def test_importing_the_sources_loads_neither_tensorflow_nor_keras() -> None:
    script = "import sys, exporter.sources; print({'tensorflow', 'keras', 'h5py'} & set(sys.modules))"
    outcome = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment(), "PYTHONPATH": str(Path(sources.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert outcome.stdout == "set()\n"


def count_lines() -> int:
    return 3


def environment() -> dict[str, str]:
    return dict(os.environ)


def save_with_keras(model: keras.Model, path: Path) -> None:
    """Save with Keras itself, which warns that HDF5 is its legacy format only through its own logger."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.saving.save_model(model, path)


def write_parts(model: keras.Model, folder: Path) -> tuple[str, str]:
    """Write a model's description and its weights apart, and give the two paths."""
    config, weights = folder / "config.json", folder / "model.weights.h5"
    config.write_text(model.to_json(), encoding="utf-8")
    model.save_weights(weights)
    return str(config), str(weights)
