"""Every command on files that were prepared to do harm: a short message or a sound answer, and none of it runs."""

import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from sample_receipt import RECEIPT
from tensorflow.core.protobuf import saved_model_pb2

import exporter
from exporter import sources
from exporter.cli.commands import run_command
from exporter.errors import ExporterError, ProofError
from exporter.storage.digests import record_files
from exporter.storage.sidecars import name_receipt

from . import test_hostile_archives as archives
from . import test_hostile_configurations as configurations
from . import test_hostile_files as files
from . import test_hostile_graphs as graphs
from .conftest import Attack, copy

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning"),
]


def change_hdf5(change: Callable[[h5py.File], None]) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return attack


def write_graph(name: str) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        shutil.rmtree(path)
        files.make_graph(lambda text: files.GRAPHS[name][0](text, str(canary)), path)

    return attack


def point_outside(path: Path, canary: Path) -> None:
    (path / "model.weights.h5").unlink(missing_ok=True)
    (path / "model.weights.h5").symlink_to(canary)


def write_recipe(text: str) -> Attack:
    def attack(path: Path, canary: Path) -> None:
        (path / "assets.extra/exporter/recipe.yaml").write_text(text.format(canary=canary))

    return attack


# Of the processor, which no other load of the machine changes, and of memory that is new to the process.
_MOST_SECONDS = 60
_MOST_KILOBYTES = 1 << 20

CORPUS: dict[str, tuple[str, Attack]] = {
    **{f"configuration: {name}": ("stock.h5", attack) for name, (attack, _) in configurations.CONFIGURATIONS.items()},
    **{
        f"configuration in a zip: {name}": ("stock.keras", each[0])
        for name, each in configurations.CONFIGURATIONS.items()
    },
    **{f"archive: {name}": ("keras", attack) for name, (attack, _) in archives.ARCHIVES.items()},
    "brackets": ("stock.keras", configurations.nest_text),
    "shape": ("stock.h5", configurations.widen),
    **{f"hdf5: {name}": ("stock.h5", change_hdf5(change)) for name, (change, _) in files.HDF5.items()},
    **{f"graph: {name}": ("graph", write_graph(name)) for name in files.GRAPHS},
    "link": ("tf", point_outside),
    "recipe that asks for Python": ("tf", write_recipe("!!python/object/apply:os.mknod ['{canary}']")),
    "recipe with a target": ("tf", write_recipe("model: {{_target_: os.mknod, path: '{canary}'}}\n")),
    "recipe of brackets": ("tf", write_recipe("[" * 50_000)),
}
# What a proof would load and run, when everything else of the artifact fits.
LOADED = [
    "configuration: lambda",
    "configuration in a zip: lambda of Keras 2",
    "graph: WriteFile",
    "graph: PrintV2",
    "link",
]


def prepare(name: str, originals: Mapping[str, Path], folder: Path, canary: Path) -> Path:
    """Makes a file of the corpus, with a receipt beside it that fits: whoever changes one can write the other."""
    original, attack = CORPUS[name]
    path = copy(originals[original], folder)
    attack(path, canary)
    receipt = replace(RECEIPT, filepath=str(path), files=record_files(path, path.name))
    name_receipt(path).write_text(receipt.to_json())
    return path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Runs a command; returns its exit code and what it says of a fault."""
    try:
        code = run_command(arguments)
    except SystemExit as end:  # of a fault in the command line
        code = int(end.code or 0)
    shown, errors = capsys.readouterr()
    assert shown.replace("\n", "").isprintable()
    assert "Traceback" not in errors
    assert len(errors) <= 1_500
    assert len(errors.splitlines()) <= 8
    assert errors.replace("\n", "").isprintable()
    return code, errors


@pytest.mark.parametrize("name", CORPUS)
def test_no_command_runs_what_a_file_brings(
    name: str,
    originals: Mapping[str, Path],
    tmp_path: Path,
    canary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: tuple[str, list[str]],
) -> None:
    path = prepare(name, originals, tmp_path, canary)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # as `rerun` sets it
    environment = dict(os.environ)
    began, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for arguments in (
        ["inspect", str(path)],
        ["inspect", str(path), "--json"],
        ["verify", "--files-only", str(path)],
        ["diff", str(path), str(originals["keras"])],
        ["diff", "--signatures", str(path), str(originals["tf"])],
        ["rerun", str(path)],
    ):
        code, errors = run(arguments, capsys)
        assert code == 0 or errors or arguments[0] == "diff", arguments
        assert not canary.exists(), arguments
    assert run(["rerun", str(path)], capsys)[0] != 0
    assert not canary.exists()
    for load in (exporter.load_model, sources.file):
        refusal = ""  # or it is harmless
        try:
            load(str(path))
        except ExporterError as error:
            refusal = str(error)
        assert refusal.replace("\n", "").isprintable()
        assert not canary.exists(), load
    assert time.process_time() - began < _MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < _MOST_KILOBYTES
    assert server[1] == []
    assert dict(os.environ) == environment


@pytest.mark.parametrize("name", LOADED)
def test_a_proof_does_not_run_what_a_file_brings(
    name: str, originals: Mapping[str, Path], tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = prepare(name, originals, tmp_path, canary)
    code, errors = run(["verify", str(path)], capsys)
    assert code != 0
    assert errors
    assert not canary.exists()


def test_a_proof_takes_a_recipe_as_data(
    originals: Mapping[str, Path], tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = prepare("recipe with a target", originals, tmp_path, canary)
    assert run(["verify", str(path)], capsys)[0] == 0
    assert not canary.exists()


def write_a_file(nodes: Any, canary: Path) -> str:
    graphs.add_constant(nodes, "canary", str(canary))
    return str(nodes.add(name="hostile", op="WriteFile", input=["canary:output:0", "canary:output:0"]).name)


def end_the_process(nodes: Any, canary: Path) -> str:
    node = nodes.add(name="hostile", op="Abort")
    node.attr["exit_without_error"].b = True
    return str(node.name)


@pytest.mark.parametrize(
    ("operation", "hide"),
    [pytest.param("WriteFile", write_a_file, id="WriteFile"), pytest.param("Abort", end_the_process, id="Abort")],
)
def test_a_signature_of_ours_that_somebody_changed(
    operation: str,
    hide: Callable[[Any, Path], str],
    originals: Mapping[str, Path],
    tmp_path: Path,
    canary: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its model is rebuilt from the configuration, which is whole; the graph is what the endpoint runs."""
    path = copy(originals["tf"], tmp_path)
    message = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    wrapper = graphs.get_function(message.meta_graphs[0], "signature_wrapper")
    name = hide(wrapper.node_def, canary)
    wrapper.control_ret[name] = name
    wrapper.signature.control_output.append(name)
    (path / "saved_model.pb").write_bytes(message.SerializeToString())
    receipt = replace(RECEIPT, filepath=str(path), files=record_files(path, path.name))
    name_receipt(path).write_text(receipt.to_json())

    assert run_command(["verify", str(path)]) == ProofError.exit_code

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]
    assert line.startswith("✗ serving_default: ")
    assert f"is refused: {operation} in " in line
    assert not canary.exists()
