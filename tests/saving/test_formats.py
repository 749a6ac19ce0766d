"""The save formats, and one that is added with a module and a line."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from sample_receipt import RECEIPT

import exporter
from exporter import save_model
from exporter.artifacts.inspection.inspection import inspect_artifact
from exporter.artifacts.json_schemas import build_recipe_schema
from exporter.artifacts.summary import print_summary
from exporter.cli import composing
from exporter.cli.help import list_rows
from exporter.config import ExportConfig, OnError
from exporter.errors import ArgumentError, UsageError
from exporter.exporting.limits import check_limits
from exporter.saving.formats import FORMATS, find_chosen
from exporter.sweeps.records.plans import describe_job, make_plan
from exporter.sweeps.records.results import describe_success, write_row
from exporter.sweeps.showing import charts
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import collect

from . import npz_format
from .format_tests import FormatTests, make_trained


class Subclassed(keras.Model):
    """Has a configuration, and no layers in an order."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.scores = keras.layers.Dense(2)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return self.scores(inputs)

    def get_config(self) -> dict[str, object]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, object], custom_objects: object = None) -> "Subclassed":
        return cls()


def make_subclassed() -> keras.Model:
    model = Subclassed()
    model(np.ones((2, 3), "float32"))
    return model


def make_with_vocabulary() -> keras.Model:
    return keras.Sequential([keras.Input((1,), dtype="string"), keras.layers.StringLookup(vocabulary=["a", "b"])])


class TestSavedModel(FormatTests):
    format = FORMATS["tf"]


class TestHdf5(FormatTests):
    format = FORMATS["h5"]
    make_unheld = staticmethod(make_subclassed)


class TestKerasArchive(FormatTests):
    format = FORMATS["keras"]


@pytest.fixture(scope="class")
def npz() -> Iterator[None]:
    """The format has its line, in this process."""
    with npz_format.registered():
        yield


@pytest.mark.usefixtures("npz")
class TestNpz(FormatTests):
    format = npz_format.FORMAT
    make_unheld = staticmethod(make_with_vocabulary)

    def test_numpy_opens_it_without_pickle(self, artifact: Path) -> None:
        with np.load(artifact, allow_pickle=False) as arrays:
            assert arrays["layers/dense/vars/0"].shape == (4, 4)

    def test_it_is_wherever_formats_are_named(self) -> None:
        with pytest.raises(ArgumentError, match="'litert', 'onnx', 'openvino', 'npz' or None"):
            save_model(make_trained(), "model", save_format="zip")
        with pytest.raises(UsageError, match="allowed: tf, h5, keras, litert, onnx, openvino, npz, null"):
            composing.compose(overrides=["save_format=zip"])
        assert composing.compose(overrides=["save_format=npz"]).filepath == "exports/digits.npz"
        assert '"enum": ["tf", "h5", "keras", "litert", "onnx", "openvino", "npz"]' in json.dumps(build_recipe_schema())
        assert find_chosen("model.npz", None) is npz_format.FORMAT

    def test_an_export_to_it_is_shown_like_any_other(self, tmp_path: Path) -> None:
        receipt = exporter.export(make_trained(), str(tmp_path / "small.npz"), verify={"mode": "none"})
        assert receipt.format == "npz"
        page, summary = io.StringIO(), io.StringIO()
        inspect_artifact(tmp_path / "small.npz").print(page)
        print_summary(receipt, tmp_path / "receipt.json", summary)
        for shown in (page.getvalue(), summary.getvalue()):
            assert "NumPy archive" in shown
        assert "keras.models" not in summary.getvalue()

    def test_the_help_lists_it(self) -> None:
        assert ("save_format=npz", "NumPy archive; chosen by .npz") in list_rows("formats")

    def test_a_sweep_shows_it_in_its_table_and_its_report(self, tmp_path: Path) -> None:
        jobs = [
            describe_job(
                number,
                (f"save_format={name}",),
                ExportConfig(model={}, filepath=str(tmp_path / "model"), save_format=name),
                f"hash-{number}",
                str(tmp_path / str(number)),
            )
            for number, name in enumerate(FORMATS)
        ]
        assert [job.format for job in jobs] == ["tf", "h5", "keras", "litert", "onnx", "openvino", "npz"]
        for job in jobs:
            Path(job.directory).mkdir()
            result = describe_success(job, replace(RECEIPT, filepath=job.filepath, format=job.format))
            write_row(result, Path(job.directory))
        plan = make_plan(
            recipe="formats",
            command=("-m",),
            job_command=(),
            directory=str(tmp_path),
            cells=tuple(jobs),
            on_error=OnError.CONTINUE,
            started="2026-01-02T03:04:05.678+00:00",
        )
        sweep, shown = collect(plan), io.StringIO()
        print_table(sweep, str(tmp_path / "report.html"), shown)
        page = write_report(sweep).read_text(encoding="utf-8")
        assert "\n6     npz " in shown.getvalue()
        assert '<td class="job text"><a href="#job-6">npz</a></td>' in page
        numbers = [charts._number_format(name) for name in FORMATS]
        assert len(set(numbers)) == len(numbers) == 7


# What a refusal of a suffix offers.
NAMES = ("model", "model.h5", "model.keras", "model.tflite", "model.onnx")


@pytest.mark.parametrize("suffix", [".mlmodel", ".pt", ".pb", ".weights.h5", ".npz", ".safetensors"])
def test_a_suffix_of_other_software_is_refused(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ArgumentError, match=f"`filepath` ends with '{suffix}'") as caught:
        save_model(model, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []
    assert str(caught.value).endswith(f"such as {', '.join(map(repr, NAMES[:-1]))} or {NAMES[-1]!r}.")
    [fault] = check_limits(ExportConfig(model={}, filepath=f"model{suffix}"))
    assert fault.path == "filepath"
    assert f"{suffix} is the suffix of" in fault.message


def test_the_names_that_a_refusal_offers_work(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for name in NAMES:
        assert save_model(model, tmp_path / name).exists()


@pytest.mark.parametrize("name", ["model.v2", "resnet.50", ".onnx", "onnx", "model.onnx.d", "model.tf"])
def test_any_other_name_is_that_of_a_saved_model(name: str) -> None:
    assert check_limits(ExportConfig(model={}, filepath=name)) == []
    assert find_chosen(name, None) is FORMATS["tf"]


def test_a_file_of_weights_may_be_asked_to_be_a_whole_model(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert save_model(model, tmp_path / "model.weights.h5", save_format="h5").is_file()
