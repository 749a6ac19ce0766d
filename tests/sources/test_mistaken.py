"""Files that are given to one source and belong to another: the error names the one, and its remedy is taken."""

import re
import shlex
from pathlib import Path

import keras
import pytest
import tensorflow as tf

import exporter
from exporter.errors import ArgumentError, UsageError
from exporter.sources import file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files of a model")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    (place / "model.json").write_text(model.to_json())
    model.save_weights(place / "model.weights.h5")
    model.save(place / "model.keras")
    exporter.save_model(model, place / "saved")
    tf.train.Checkpoint(model=model).write(str(place / "points" / "ckpt"))
    (place / "points" / "checkpoint").write_text('model_checkpoint_path: "ckpt"')
    return place


WEIGHTS = "Use model=architecture model.config=CONFIG.json {key}"


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        pytest.param(
            "model.json",
            "model.filepath",
            "{path} is JSON: the configuration of a model without its weights. "
            "Use model=architecture '{config}' model.weights=WEIGHTS",
            id="configuration",
        ),
        pytest.param(
            "model.weights.h5",
            "model.filepath",
            "{path} holds weights without a model. Use model=architecture model.config=CONFIG.json '{weights}'",
            id="weights",
        ),
        pytest.param(
            "model.keras",
            "model.config",
            "{path} is a .keras archive, which holds the whole model. Use model=file '{filepath}'",
            id="model as configuration",
        ),
        pytest.param(
            "saved",
            "model.config",
            "{path} is a SavedModel, which holds the whole model. Use model=file '{filepath}'",
            id="directory as configuration",
        ),
        pytest.param(
            "model.weights.h5",
            "model.config",
            "{path} holds weights. Set `model.weights` to it, and `model.config` to the model's JSON",
            id="weights as configuration",
        ),
    ],
)
def test_a_file_is_pointed_to_its_source_at_once(given: str, key: str, message: str, files: Path) -> None:
    path = files / given
    words = {
        "path": path,
        **{name: f"model.{name}={path}" for name in ("config", "weights", "filepath")},
    }
    source = "file" if key == "model.filepath" else "architecture"
    more = [] if source == "file" else [f"model.weights={files / 'model.weights.h5'}"]

    with pytest.raises(UsageError) as caught:
        exporter.compose(overrides=[f"model={source}", f"{key}={path}", *more])

    [fault] = caught.value.faults
    assert (fault.path, fault.message) == (key, message.format(**words))

    remedy = re.search(r"Use (model=.+)", fault.message)
    if remedy is not None:
        typed = remedy[1].replace("CONFIG.json", shlex.quote(str(files / "model.json")))
        typed = typed.replace("WEIGHTS", shlex.quote(str(files / "model.weights.h5")))
        config = exporter.compose(overrides=[*shlex.split(typed), f"filepath={files / 'again'}", "verify=none"])
        assert exporter.export(config).format == "tf"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        pytest.param("points", "is a checkpoint: weights without a model.", id="directory"),
        pytest.param("points/ckpt", "is the prefix of a checkpoint: weights without a model.", id="prefix"),
        pytest.param("points/ckpt.index", "is a part of a checkpoint: weights without a model.", id="index"),
        pytest.param(
            "points/ckpt.data-00000-of-00001", "is a part of a checkpoint: weights without a model.", id="data"
        ),
    ],
)
def test_a_checkpoint_is_pointed_to_the_source_that_takes_weights(given: str, what: str, files: Path) -> None:
    prefix = shlex.quote(f"model.weights={files / 'points/ckpt'}")
    message = f"{files / given} {what} Use model=architecture model.config=CONFIG.json {prefix}"

    with pytest.raises(UsageError) as caught:
        exporter.compose(overrides=["model=file", f"model.filepath={files / given}"])

    [fault] = caught.value.faults
    assert (fault.path, fault.message.rstrip(".")) == ("model.filepath", message)
    typed = message.partition("Use ")[2].replace("CONFIG.json", shlex.quote(str(files / "model.json")))
    config = exporter.compose(overrides=[*shlex.split(typed), f"filepath={files / 'again'}", "verify=none"])
    assert exporter.export(config).format == "tf"
    with pytest.raises(ArgumentError) as refused:
        file(str(files / given))
    assert str(refused.value) == f"{message}."
