"""A real sweep over formats and quantisations, with a pair that does not exist and a model that a converter refuses."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter import ExportConfig
from exporter.config import VerifyConfig, VerifyMode
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats import FORMATS
from exporter.saving.formats.deployed import DeployedFormat
from sweeps.conftest import Run, read_table

# LiteRT has no operation for the inverse of a matrix.
MODELS = """
import pathlib

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tests")
class Inverse(keras.layers.Layer):
    def call(self, inputs):
        return tf.linalg.inv(inputs[:, :, None] * inputs[:, None, :] + tf.eye(4))[:, 0]


def build(kind: str = "fine") -> keras.Model:
    with pathlib.Path("built").open("a") as file:
        file.write(kind + "\\n")
    inputs = keras.Input((4,), name="features")
    hidden = Inverse()(inputs) if kind == "inverse" else inputs
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(hidden), name="tiny")
"""
SWEEP = (
    *("-m", "model=custom", "model._target_=deployed_models.build", "+model.kind=fine,inverse"),
    *("save_format=tf,litert", "quantize=null,int8", "calibration.data=calibration.npz", "verify.data=judged.npz"),
    *("measure.runs=5", "measure.warm_up=1", "verify.max_accuracy_drop=1"),
    'filepath="out/${model.kind}-${quantize}${exporter.suffix:${save_format}}"',
)

pytestmark = pytest.mark.xdist_group("deployed sweep")


@dataclass(frozen=True)
class Story:
    """A sweep, and the same one resumed."""

    first: subprocess.CompletedProcess[str]
    table: dict[str, Any]
    resumed: subprocess.CompletedProcess[str]
    resumed_table: dict[str, Any]
    built: list[str]


@pytest.fixture(scope="module")
def story(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("deployed")
    (directory / "deployed_models.py").write_text(MODELS)
    random = np.random.default_rng(0)
    for name in ("calibration", "judged"):
        features = random.normal(size=(40, 4)).astype("float32")
        np.savez(directory / f"{name}.npz", features=features, y=(features[:, 0] > 0).astype("int64"))
    first = run(directory, *SWEEP)
    table = read_table(directory)
    resumed = run(directory, *SWEEP, "resume=true")
    built = (directory / "built").read_text().split()
    return Story(first, table, resumed, read_table(directory), built)


def test_pairs_that_do_not_exist_are_rows_and_no_failures(story: Story) -> None:
    rows = story.table["rows"]
    pairs = [(row["format"], row["outcome"]) for row in rows]
    assert pairs == [
        *(("tf", "proven"), ("tf", "refused"), ("litert", "proven"), ("litert", "proven")),
        *(("tf", "proven"), ("tf", "refused"), ("litert", "refused"), ("litert", "refused")),
    ], story.first.stdout + story.first.stderr
    assert rows[1]["error"].startswith("quantize: received int8, which save_format=tf does not have")
    assert rows[6]["error"].startswith("The model 'tiny' cannot be exported like this: LiteRT has no operation for ")
    assert [row["exit_code"] for row in rows] == [0, 2, 0, 0, 0, 2, 3, 3]
    assert story.first.returncode == story.table["exit_code"] == 0
    assert "8 jobs: 4 proven, 4 refused" in story.first.stdout.splitlines()


def test_a_deployed_row_says_what_it_keeps_of_the_model(story: Story) -> None:
    plain, quantized = story.table["rows"][2:4]
    assert (plain["quantize"], quantized["quantize"]) == (None, "int8")
    for row in (plain, quantized):
        [score] = row["deployment"]["scores"]
        assert (score["metric"], score["samples"], score["higher_is_better"]) == ("accuracy", 40, True)
        assert row["measurements"]["reader"] == "LiteRT, serving_default, 1 thread"
        assert row["machine"]["int8_instructions"] is not None or not Path("/proc/cpuinfo").exists()
        assert row["beside"] == []
    assert "score_change" in (Path(story.table["directory"]) / "sweep.csv").read_text()


def test_each_model_is_built_once_for_all_formats(story: Story) -> None:
    assert story.built == ["fine", "inverse"]


def test_what_was_refused_is_not_run_again(story: Story) -> None:
    assert story.resumed_table["directory"] == story.table["directory"]
    assert story.resumed_table["rows"] == story.table["rows"]
    assert story.resumed.stderr.splitlines() == ["8 of 8 jobs are finished already"]
    assert story.resumed.returncode == 0


def test_one_process_converts_one_artifact_after_the_other_from_one_build(tmp_path: Path) -> None:
    litert = FORMATS["litert"]
    assert isinstance(litert, DeployedFormat)
    model = {"_target_": "exporter.sources.digits", "epochs": 1}
    with ExportSession() as session:
        numbers, read = set(), set()
        for quantize in (None, Quantize.FLOAT16):
            config = ExportConfig(
                model=model,
                filepath=str(tmp_path / f"{quantize}.tflite"),
                save_format="litert",
                quantize=quantize,
                verify=VerifyConfig(mode=VerifyMode.NONE),
            )
            receipt = run_export(config, session=session)
            assert json.loads(receipt.to_json())["deployment"]["quantize"] == quantize
            numbers.add(session.open_process(litert.start_converter).id)
            read.add(id(session.build(model, config.seed, lambda line: None)[0]))
    assert len(numbers) == len(read) == 1
