"""Artifacts that are made again from the recipe inside them, which may be a stranger's."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import exporter
from exporter import ArtifactError, ExportError, UsageError
from exporter.artifacts.manifest import write_manifest
from exporter.cli.commands import run_command
from exporter.cli.rerunning import plan_rerun
from exporter.cli.shorthands import expand
from exporter.storage.digests import digest_files, record_files

_INSIDE = Path("assets.extra", "exporter")

pytestmark = pytest.mark.xdist_group("rerunning")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, trained for one epoch, with labels from a file."""
    folder = tmp_path_factory.mktemp("rerun")
    (folder / "labels.txt").write_text("".join(f"{number}\n" for number in range(10)))
    step = f"{{_target_:exporter.transforms.top_k,k:1,labels:{folder / 'labels.txt'}}}"
    overrides = [
        "model.epochs=1",
        "verify=none",
        f"filepath={folder / 'numbers'}",
        f"+signatures.serving_default.postprocess={step}",
    ]
    exporter.export("digits", overrides)
    return folder / "numbers"


@pytest.fixture
def change(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Copies the artifact and writes something else into its recipe."""
    monkeypatch.chdir(tmp_path)

    def write(**changes: Any) -> Path:
        copy = tmp_path / "a copy"
        shutil.copytree(artifact, copy, symlinks=True)
        recipe = yaml.safe_load((copy / _INSIDE / "recipe.yaml").read_text())
        (copy / _INSIDE / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **changes}))
        return copy

    return write


def test_it_has_the_same_bytes_again(artifact: Path, tmp_path: Path) -> None:
    before = digest_files(record_files(artifact, ""))

    done = subprocess.run(
        [sys.executable, "-m", "exporter", "rerun", str(artifact)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    again = tmp_path / "numbers-rerun"
    assert str(again) in done.stdout
    assert digest_files(record_files(again, "")) == before == digest_files(record_files(artifact, ""))


def test_overrides_and_groups_have_the_last_word(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = plan_rerun(artifact, ["model.epochs=2", "verify=reload", "save_format=h5", "signatures=default"])
    assert config.model == {"_target_": "exporter.sources.digits", "epochs": 2, "batch_size": 32}
    assert (config.filepath, config.overwrite, config.verify.mode) == ("numbers-rerun.h5", False, "reload")
    assert config.signatures == {}


def test_it_replaces_nothing_unless_it_is_told(artifact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = record_files(artifact, "")
    assert run_command(["rerun", str(artifact), f"filepath={artifact}"]) == 3
    assert f"{artifact}" in capfd.readouterr().err
    assert record_files(artifact, "") == before


def test_a_file_that_has_changed_is_refused_or_named(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = artifact.parent / "labels.txt"
    former = labels.read_text()
    labels.write_text("a\n" * 10)
    try:
        with pytest.raises(UsageError) as caught:
            plan_rerun(artifact)
        monkeypatch.setattr("exporter.cli.commands.rerunning.run_recipe", lambda *_: 0)
        assert run_command(["rerun", str(artifact), "--allow-drift"]) == 0
        [now] = record_files(labels, "")
    finally:
        labels.write_text(former)
    [fault] = caught.value.faults
    [recorded] = json.loads((artifact / _INSIDE / "inputs.json").read_text())
    assert fault.path == "signatures.serving_default.postprocess.labels" == recorded["key"]
    assert recorded["sha256"] in fault.message
    assert fault.message.startswith(f"{labels} has the sha256 ")
    assert fault.message.endswith("or take the one that is there with --allow-drift")
    changed = f"! {fault.path}: {labels} has changed: sha256 {recorded['sha256']} -> {now.sha256}"
    assert changed in capfd.readouterr().err.splitlines()


HOSTILE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a module of anybody": (
        {"model": {"_target_": "antigravity.build"}},
        ["model._target_: antigravity.build is neither exporter's nor a class of Keras's, and would be imported; "
         "if you trust it: --trust antigravity"],
    ),
    "a function of ours that writes": (
        {"model": {"_target_": "exporter.storage.staging.replace_text", "path": "x", "text": "y"}},
        ["model._target_: exporter.storage.staging.replace_text can do more than make a model, and would be imported; "
         "if you trust it: --trust exporter.storage.staging.replace_text"],
    ),
    "a function of Keras that downloads": (
        {"model": {"_target_": "keras.utils.get_file", "origin": "http://localhost"}},
        ["model._target_: keras.utils.get_file can do more than make a model, and would be imported; "
         "if you trust it: --trust keras.utils.get_file"],
    ),
    "a layer with code": (
        {"model": {"_target_": "keras.Sequential", "layers": [{"_target_": "keras.layers.Lambda", "function": "x"}]}},
        ["model.layers[0]._target_: keras.layers.Lambda can do more than make a model, and would be imported; "
         "if you trust it: --trust keras.layers.Lambda"],
    ),
    "custom objects and no safe mode": (
        {"model": {"_target_": "exporter.sources.file", "filepath": "/dev/null", "safe_mode": False,
                   "custom_objects": ["antigravity.Layer"]}},
        ["model.custom_objects.0: antigravity.Layer is neither exporter's nor a class of Keras's, and would be "
         "imported; if you trust it: --trust antigravity",
         "model.safe_mode: the recipe lets a file run code of its own; say it too: model.safe_mode=false"],
    ),
    "the environment": (
        {"model": {"_target_": "exporter.sources.digits", "epochs": "${oc.env:HOME}"}},
        ["model.epochs: received ${oc.env:HOME}; it cannot be resolved: ValueError raised while resolving "
         "interpolation: it reads the environment variable HOME; to let it: --environment HOME"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_of_a_stranger_is_imported_or_read(case: str, change: Callable[..., Path]) -> None:
    changes, messages = HOSTILE[case]
    loaded = set(sys.modules)
    with pytest.raises(UsageError) as caught:
        plan_rerun(change(**changes))
    assert str(caught.value).splitlines() == messages
    assert "antigravity" not in set(sys.modules) - loaded


def test_what_is_trusted_may_be_named(change: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "a-size-of-this-test")  # hidden in all texts of this process from now on
    path = change(model={"_target_": "antigravity.build", "size": "${oc.env:SIZE}"})
    config = plan_rerun(path, trusted=["antigravity"], variables=["SIZE"])
    assert config.model["_target_"] == "antigravity.build"
    assert config.origin.written["model.size"] == "${oc.env:SIZE}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hydra": {"run": {"dir": "/"}}}, "unknown: hydra"),
        ({"defaults": ["x"]}, "unknown: defaults"),
        ({"model": {"live": "keras.Sequential", "name": "mine"}}, "from a live model, keras.Sequential mine"),
    ],
    ids=["hydra's settings", "a defaults list", "a live model"],
)
def test_what_cannot_be_made_again(changes: dict[str, Any], message: str, change: Callable[..., Path]) -> None:
    with pytest.raises((ArtifactError, ExportError), match=message):
        plan_rerun(change(**changes))


def test_the_artifact_of_a_live_model_is_exported_by_its_path(change: Callable[..., Path]) -> None:
    path = change(model={"live": "keras.Sequential", "name": "mine"})
    with pytest.raises(ExportError) as caught:
        plan_rerun(path)
    program, *words = shlex.split(str(caught.value).partition("export the artifact itself again: ")[2])
    assert (program, expand(words).source) == ("exporter", path)


def test_every_fault_of_the_recipe_is_named(change: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = change(seed="many", strict=3)
    assert run_command(["rerun", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"exporter: 2 faults in the recipe inside {path}\n  seed: received many")
    assert "exporter-rerun-" not in error


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as one file."""
    path = tmp_path_factory.mktemp("verify") / "numbers.h5"
    exporter.export("digits", ["model.epochs=1", "verify=none", "save_format=h5", f"filepath={path}"])
    return path


class TestVerify:
    def test_it_loads_compares_and_rebuilds(self, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["verify", str(trained), "--rebuild"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"✓ {trained}: 1 file, ")
        assert "✓ weights: bit-equal; 12 tensors" in lines
        assert "✓ stock Keras: bit-equal; keras.models.load_model" in lines
        assert lines[-1] == "✓ made again from its recipe: the same bytes, 1 of 1 files"

    def test_a_rebuild_with_other_bytes_says_which(
        self, change: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = change(seed=5)
        (path / _INSIDE / "manifest.json").unlink()
        write_manifest(path, path.name)
        assert run_command(["verify", str(path), "--rebuild"]) == 1
        output = capsys.readouterr().out
        assert "✗ made again from its recipe: " in output
        assert "  variables/variables.data-00000-of-00001 has other bytes of the same number" in output

    def test_endpoints_of_its_own_are_called_too(self, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(["verify", str(artifact), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["intact"]
        figures = {check["name"]: check["figure"] for check in found["checks"]}
        assert figures["serving_default"] == "bit-equal"
        assert figures["predictions"] == "bit-equal"
