"""What the version before wrote: it loads, is proven, and is made again from the recipe inside it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import exporter
from exporter.artifacts.receipt import Receipt
from exporter.cli.commands import run_command

FORMER = Path(__file__).parent / "former"
ARTIFACTS = ["digits", "digits.h5", "digits.keras", "plain.keras", "served/1"]

pytestmark = pytest.mark.xdist_group("former")


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copies an artifact with its receipt to where nothing else is."""
    source = FORMER / request.param
    target = tmp_path / source.name
    shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
    shutil.copy(source.with_name(f"{source.name}.receipt.json"), tmp_path)
    return Path(target)


@pytest.mark.parametrize("copied", ["served/1", "digits.h5", "plain.keras"], indirect=True)
def test_it_passes_every_check(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", str(copied)]) == 0
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits", "digits.h5", "digits.keras"])
def test_it_predicts_what_the_others_do_and_trains_on(name: str) -> None:
    expected, model = (exporter.load_model(FORMER / each) for each in ("served/1", name))
    pixels = np.linspace(0, 1, 3 * 64, dtype="float32").reshape(3, 8, 8, 1)

    assert np.array_equal(model.predict(pixels, verbose=0), expected.predict(pixels, verbose=0))
    for each in (expected, model):
        each.fit(pixels, np.arange(3), batch_size=3, shuffle=False, verbose=0)
    assert all(
        np.array_equal(mine, others) for mine, others in zip(model.get_weights(), expected.get_weights(), strict=True)
    )


@pytest.mark.parametrize("name", ARTIFACTS)
def test_its_receipt_is_read(name: str) -> None:
    receipt = Receipt.from_json((FORMER / f"{name}.receipt.json").read_text(encoding="utf-8"))

    assert receipt.status == "proven"
    assert receipt.recipe["model"]["_target_"] == "exporter.sources.digits"


@pytest.mark.parametrize("copied", ["digits"], indirect=True)
def test_it_is_made_again_from_the_recipe_inside_it(copied: Path, tmp_path: Path) -> None:
    again = tmp_path / f"again{copied.suffix}"

    assert run_command(["rerun", str(copied), f"filepath={again}"]) == 0
    pixels = np.linspace(0, 1, 3 * 64, dtype="float32").reshape(3, 8, 8, 1)
    former, made = (exporter.load_model(path).predict(pixels, verbose=0) for path in (copied, again))
    np.testing.assert_allclose(made, former, atol=1e-4)  # another processor rounds the training otherwise
