"""The Python face: what the commands do, as objects and exceptions; `test_imports` holds what importing it costs."""

import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import exporter
from exporter.cli.commands import run_command
from exporter.exporting.reporting import NotebookReporter


def halve(tensor: Any) -> Any:
    """A step that another process can import."""
    return tensor / 2.0


def build(units: int = 3) -> tuple[keras.Model, dict[str, object]]:
    """A model and what is known of it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    return model, {"accuracy": np.float32(0.25), "epochs": 3, "note": "good", "loss": float("nan")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with artifacts, made once."""
    place = tmp_path_factory.mktemp("face")
    before = Path.cwd()
    os.chdir(place)
    exporter.export({"_target_": build, "units": 2}, "own.keras", verify="reload")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    signatures = {
        "classify": {"preprocess": halve},
        "other": {"preprocess": [lambda tensor: tensor + 1.0, partial(tf.multiply, y=2.0)]},
    }
    exporter.export(model, "served", layout="tf_serving", verify="reload", signatures=signatures)
    yield place
    os.chdir(before)


def test_functions_and_options_stand_where_yaml_has_names(folder: Path) -> None:
    receipt = exporter.inspect(folder / "served").receipt
    assert receipt is not None
    recipe = json.loads(Path(receipt.path).read_text())["recipe"]
    assert (recipe["layout"]["kind"], recipe["verify"]["mode"], recipe["verify"]["batch_sizes"]) == (
        "tf_serving",
        "reload",
        [1],
    )
    assert recipe["signatures"]["classify"]["preprocess"] == {"_target_": f"{__name__}.halve"}
    assert recipe["signatures"]["other"]["preprocess"][0]["live"] == "builtins.function"
    served = tf.saved_model.load(str(folder / "served" / "1"))
    ones = tf.ones((1, 4))
    [plain], [halved] = (list(served.signatures[name](ones).values()) for name in ("other", "classify"))
    assert np.allclose(plain, 8 * halved)  # without a bias: (1 + 1) * 2 against 1 / 2


def test_what_a_source_tells_of_its_model_is_kept_and_shown(folder: Path) -> None:
    inspection = exporter.inspect(folder / "own.keras")
    assert inspection.receipt is not None
    assert inspection.receipt.facts == {"accuracy": 0.25, "epochs": 3, "note": "good", "loss": "nan"}
    receipt = exporter.Receipt.from_json(Path(inspection.receipt.path).read_text())
    assert receipt.recipe["model"] == {"_target_": f"{__name__}.build", "units": 2}
    for shown in (str(inspection), str(receipt)):
        assert "facts       accuracy  0.25" in shown or "facts      accuracy  0.25" in shown
    assert "accuracy" in receipt._repr_html_()


def test_facts_that_are_none_are_named_all_at_once(tmp_path: Path) -> None:
    def tell() -> tuple[keras.Model, dict[Any, object]]:
        return build()[0], {"good": 1, "list": [1], 3: "x"}

    with pytest.raises(exporter.ArgumentError) as raised:
        exporter.export(tell, tmp_path / "x.h5")
    assert "returned facts beside its model that cannot be kept" in str(raised.value)
    assert str(raised.value).splitlines()[1:] == ["  'list': [1]", "  3: 'x'"]


@pytest.mark.parametrize(
    ("arguments", "find"),
    [
        pytest.param(["inspect", "own.keras"], lambda: exporter.inspect("own.keras"), id="inspect"),
        pytest.param(["diff", "own.keras", "served"], lambda: exporter.diff("own.keras", Path("served")), id="diff"),
        pytest.param(
            ["diff", "served", "served", "--signatures"],
            lambda: exporter.diff("served", "served", signatures=True),
            id="signatures",
        ),
        pytest.param(
            ["verify", "own.keras", "--files-only"], lambda: exporter.verify("own.keras", files_only=True), id="verify"
        ),
        pytest.param(["versions", "served"], lambda: exporter.versions("served"), id="versions"),
    ],
)
def test_a_function_returns_what_its_command_prints(
    arguments: list[str], find: Callable[[], Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(arguments)
    printed = capsys.readouterr().out
    found = find()
    assert str(found) == printed
    assert repr(found).startswith(f"<{type(found).__name__} of ")
    run_command([*arguments, "--json"])
    assert found.to_json() == capsys.readouterr().out
    page = found._repr_html_()
    assert page.startswith('<pre style="white-space: pre-wrap; overflow-wrap: anywhere')
    assert "own.keras" in page or "served" in page or "version" in page
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(found)
    assert console.export_text().split()[:1] == printed.split()[:1]


def test_check_says_what_can_be_held_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forecast = exporter.check(build, folder / "new.h5")
    assert (forecast.asked, forecast.exit_code) == ("h5", 0)
    assert "new.h5 can be written" in str(forecast)
    assert not (folder / "new.h5").exists()
    assert capsys.readouterr() == ("", "")


def test_an_artifact_is_made_again_by_those_who_trust_its_source(folder: Path) -> None:
    with pytest.raises(exporter.UsageError, match=r"if you trust it: trust=\['tests'\]|trust=\['test_python_face'\]"):
        exporter.rerun(folder / "own.keras")
    again = exporter.rerun(folder / "own.keras", ["verify=none"], trust=[__name__])
    assert Path(again.filepath) == folder / "own-rerun.keras"
    assert exporter.diff(folder / "own.keras", again.filepath).same


def configure(**settings: Any) -> Callable[[], object]:
    return lambda: exporter.export(build, "own.keras", **settings)


@pytest.mark.parametrize(
    ("act", "kind", "lines"),
    [
        pytest.param(
            configure(layout="served", verify="reloaded"),
            exporter.UsageError,
            [
                "layout: received served; allowed: single, tf_serving",
                "verify: received reloaded; allowed: full, none, reload; did you mean reload?",
            ],
            id="options",
        ),
        pytest.param(
            configure(overwrite=False, verify="none"),
            exporter.TargetExistsError,
            ["own.keras exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=True."],
            id="a-remedy",
        ),
        pytest.param(
            configure(save_format="h5"),
            exporter.UsageError,
            [
                "filepath: received own.keras, which contradicts save_format='h5'; change the suffix, or set "
                "save_format='keras'"
            ],
            id="a-text",
        ),
        pytest.param(
            lambda: exporter.verify("own.keras", signature="x"),
            exporter.UsageError,
            ["signature: needs the key that it is checked with: add public_key=FILE"],
            id="a-flag",
        ),
        pytest.param(
            configure(signatures={"classify": {"inputs": halve}}, save_format=None),
            exporter.UsageError,
            None,
            id="a-function-where-none-can-be",
        ),
    ],
)
def test_an_error_tells_a_program_what_to_do(
    act: Callable[[], object], kind: type[Exception], lines: list[str] | None, folder: Path
) -> None:
    with pytest.raises(kind) as raised:
        act()
    if lines is not None:
        assert str(raised.value).splitlines() == lines


def test_a_notebook_shows_each_phase_as_text() -> None:
    pages: list[str] = []

    def display(page: str) -> Callable[[str], None]:
        pages.append(page)
        return pages.append

    reporter = NotebookReporter(display)
    with reporter.phase("write <it>"):
        reporter._shown = 0.0
        reporter.note("1 of 2 <b>", 0.5)
    with pytest.raises(ValueError, match="no"), reporter.phase("prove it"):
        raise ValueError("no")
    assert '… write &lt;it&gt; <progress value="0.500" max="1"></progress> 1 of 2 &lt;b&gt;' in pages[1]
    assert "✓ write &lt;it&gt; 0.0 s<br>✗ prove it 0.0 s" in pages[-1]
