"""`exporter.export` in plain Python and in a notebook: what it takes, what it refuses, and how its receipt looks."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from sample_receipt import RECEIPT

import exporter
from exporter.config import OptionsConfig, VerifyConfig, VerifyMode
from exporter.errors import NotAModelError, UsageError

RECIPE = """# For the tests.
defaults: [config, _self_]
model: {epochs: 1}
filepath: from_a_recipe
verify: {mode: none}
"""


@pytest.fixture(scope="module")
def model() -> Any:
    import keras

    model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(3)], name="tiny")
    model.compile("adam", "mse", jit_compile=False)
    return model


def test_a_live_model(model: Any, tmp_path: Path) -> None:
    receipt = exporter.export(
        model,
        tmp_path / "tiny",
        signatures={"ask": {"batch": 2}},
        options=OptionsConfig(save_debug_info=True),
        verify=VerifyConfig(mode=VerifyMode.NONE),
        strict=False,
    )
    assert (receipt.format, receipt.filepath) == ("tf", str(tmp_path / "tiny"))
    assert receipt.signatures["ask"].inputs["features"].shape == (2, 4)
    assert (tmp_path / "tiny" / "debug" / "saved_model_debug_info.pb").is_file()
    other = exporter.export(model, str(tmp_path / "tiny.out"), save_format="h5", verify={"mode": "none"})
    assert other.format == "h5"


def test_a_recipe_with_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    several = exporter.export("mine", ["save_format=keras", "seed=3"], config_dir=tmp_path)
    assert (several.format, several.recipe["seed"]) == ("keras", 3)
    one = exporter.export("mine", "save_format=h5", config_dir=tmp_path)  # not a list of letters
    assert one.format == "h5"


def test_a_config(tmp_path: Path) -> None:
    target = f"filepath={tmp_path}/a.h5"
    config = exporter.compose(overrides=["verify=none", "model.epochs=1", target, "save_format=h5"])
    assert exporter.export(config).filepath == str(tmp_path / "a.h5")


CALLS: dict[str, tuple[Callable[[Any], Any], dict[str, str]]] = {
    "no filepath": (lambda model: exporter.export(model), {"filepath": "missing; it has no default"}),
    "several faults": (
        lambda model: exporter.export(model, "a.h5", save_fromat="tf", seed=-1, verify={"mode": "some"}),
        {
            "save_fromat": "unknown key; allowed: model, filepath, save_format, overwrite, include_optimizer, "
            "signatures, options, compatibility, quantize, calibration, layout, verify, seed, strict, measure; did "
            "you mean save_format?",
            "verify.mode": "received some; allowed: full, reload, none",
        },
    ),
    "out of range": (
        lambda model: exporter.export(model, "a.h5", save_format="tf", seed=-1),
        {
            "filepath": "received a.h5, which contradicts save_format='tf'; change the suffix, or set save_format='h5'",
            "seed": "received -1; expected an integer from 0 to 4294967295",
        },
    ),
    "two models": (
        lambda model: exporter.export(model, "a", model=1),
        {"model": "is given once, as the first argument"},
    ),
    "setting of a recipe": (
        lambda _: exporter.export("digits", seed=1),  # type: ignore[call-overload]
        {"seed": "belongs to the recipe; write it as an override: ['seed=VALUE']"},
    ),
    "fault in an override": (
        lambda _: exporter.export("digits", ["sede=1"]),
        {
            "sede": "unknown key; allowed: model, filepath, save_format, overwrite, include_optimizer, signatures, "
            "options, compatibility, quantize, calibration, layout, verify, seed, strict, measure, on_error, resume, "
            "objective, results_url, verbose; did you mean seed=1?"
        },
    ),
    "directory of a model": (
        lambda model: exporter.export(model, "a", config_dir="."),
        {"config_dir": "goes with the name of a recipe"},
    ),
    "filepath of a config": (
        lambda _: exporter.export(exporter.compose(), "elsewhere"),
        {"filepath": "received elsewhere; it belongs to the config; set it there"},
    ),
    "setting of a config": (
        lambda _: exporter.export(exporter.compose(), seed=1),  # type: ignore[call-overload]
        {"seed": "belongs to the config; set it there"},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_fault_is_named(name: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, faults = CALLS[name]
    with pytest.raises(UsageError) as caught:
        call(model)
    assert {fault.path: fault.message for fault in caught.value.faults} == faults
    assert os.listdir(tmp_path) == []


def test_something_else_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotAModelError, match=r"is an object of builtins\.int\. Expected a keras\.Model"):
        exporter.export(3, tmp_path / "three")


def test_a_receipt_in_a_terminal() -> None:
    assert repr(RECEIPT) == f"<Receipt of {RECEIPT.filepath}: {RECEIPT.format}, proven, {RECEIPT.total_bytes} bytes>"
    assert f"{Path(RECEIPT.filepath).name} is the same model, proven in" in str(RECEIPT)
    assert "\x1b" not in str(RECEIPT)


def test_a_notebook_shows_the_receipt_and_keeps_its_own_hydra(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "own.yaml").write_text("answer: 42\n", encoding="utf-8")
    cells = [
        "import sys, exporter\nassert not {'tensorflow', 'keras', 'h5py'} & set(sys.modules)",
        f"import hydra\nhydra.initialize_config_dir({str(tmp_path)!r}, version_base='1.3')",
        f"exporter.export('mine', config_dir={str(tmp_path)!r})",
        "hydra.compose('own').answer",
        "import gc\ngc.get_freeze_count()",
    ]
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    # The kernel of the environment that runs the tests, whatever else is registered on the machine.
    specification = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    folder = tmp_path / "kernels" / "here"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({**specification, "display_name": "here", "language": "python"}), encoding="utf-8"
    )
    os.environ["JUPYTER_PATH"] = str(tmp_path)
    try:
        NotebookClient(
            notebook, timeout=1500, kernel_name="here", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    finally:
        del os.environ["JUPYTER_PATH"]
    outputs = notebook.cells[2].outputs
    progress, *outputs = outputs
    assert progress.output_type == "display_data"
    assert "✓ publish it" in progress.data["text/html"]
    assert [output.output_type for output in outputs] == ["execute_result"], outputs
    [shown] = outputs  # and nothing that TensorFlow writes
    assert shown.data["text/plain"].startswith(f"<Receipt of {tmp_path}/from_a_recipe: tf, written, ")
    html = shown.data["text/html"]
    assert "<b>from_a_recipe</b> is written, not proven in" in html
    assert "serving_default: pixels" in html
    assert notebook.cells[3].outputs[0].data["text/plain"] == "42"
    assert notebook.cells[4].outputs[0].data["text/plain"] == "0"  # the collector looks at everything again


def test_the_table_escapes_what_a_model_is_called() -> None:
    import dataclasses

    html = dataclasses.replace(RECEIPT, read=("<script>alert(1)</script>",))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"https?://|src=|href=", html)
