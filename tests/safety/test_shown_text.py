"""Artifacts that are called what would steer a terminal or forge a line of ours: whatever is shown of them is text.

Every place of a file that holds a name, a version or a sentence is changed; what remains of the file need not load.
"""

import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
import yaml
from sample_receipt import RECEIPT
from sweeps.test_report import make_plan_of, make_row

import exporter
from exporter.artifacts.manifest import write_manifest
from exporter.artifacts.receipt import Receipt
from exporter.cli.commands import run_command
from exporter.errors import ArtifactError, ExporterError
from exporter.saving.layout.messages import SavedMetadata, SavedModel
from exporter.saving.layout.names import MANIFEST
from exporter.saving.safety.graphs.operations import Harm, check_graph
from exporter.storage.digests import record_files
from exporter.storage.logs import DiscreetFormatter
from exporter.storage.sidecars import name_receipt
from exporter.sweeps.records.results import Outcome, write_row
from exporter.sweeps.showing.files import write_table
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import collect

from .conftest import copy, read_members, write_members

pytestmark = [
    pytest.mark.xdist_group("safety"),
    pytest.mark.filterwarnings("ignore"),
]

FORGED = "✓ evil is the same model, proven"
STEERING = "\x1b\x07\x9b\u202e\r"
EVIL = f"x\x1b]0;x\x07\x9b2J\u202e\r{FORGED}\n{FORGED}"
NAMES = {
    "names": ("name",),
    "classes": ("class_name", "registered_name", "module"),
    "versions": ("keras_version", "version", "backend", "dtype"),
}

Change = Callable[[Path], None]


def assert_is_text(shown: str, where: object) -> None:
    """Fails where something shown holds a character that is obeyed, or a line that is not ours."""
    assert not [each for each in STEERING if each in shown], (where, shown)
    assert not [line for line in shown.split("\n") if line.startswith(FORGED)], (where, shown)


def spoil(value: Any, chosen: Callable[[str], bool]) -> Any:
    """Puts the evil text behind every chosen string of plain data."""
    if isinstance(value, dict):
        return {key: spoil_entry(key, entry, chosen) for key, entry in value.items()}
    return [spoil(each, chosen) for each in value] if isinstance(value, list) else value


def spoil_entry(key: str, entry: Any, chosen: Callable[[str], bool]) -> Any:
    return f"{entry}{EVIL}" if isinstance(entry, str) and chosen(key) else spoil(entry, chosen)


def spoil_keys(value: Any) -> Any:
    """Puts the evil text behind every key, and keeps the plain ones beside them."""
    if isinstance(value, dict):
        return {name: spoil_keys(entry) for key, entry in value.items() for name in (key, f"{key}{EVIL}")}
    return value


def change_json(text: bytes | str, change: Callable[[Any], Any]) -> str:
    return json.dumps(change(json.loads(text)))


WAYS: dict[str, Callable[[Any], Any]] = {
    **{name: partial(spoil, chosen=set(keys).__contains__) for name, keys in NAMES.items()},
    "every string": lambda tree: spoil(tree, lambda key: True),
    "keys": spoil_keys,
}


def change_configuration(way: Callable[[Any], Any]) -> Change:
    """Changes every JSON of an artifact."""

    def change(path: Path) -> None:
        if path.is_dir():
            for file in path.rglob("*.json"):
                file.write_text(change_json(file.read_bytes(), way), encoding="utf-8")
        elif zipfile.is_zipfile(path):
            members = read_members(path)
            documents = {name: content for name, content in members.items() if name.endswith(".json")}
            write_members(path, {**members, **{n: change_json(c, way).encode() for n, c in documents.items()}})
        else:
            with h5py.File(path, "r+") as file:
                for name in ("model_config", "training_config"):
                    file.attrs[name] = change_json(file.attrs[name], way)

    return change


def change_attributes(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = file.attrs["backend"] = EVIL
        file["model_weights"].attrs["layer_names"] = [f"hidden{EVIL}"]


def rename_groups(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for group in [file["model_weights"], file]:
            for name in list(group):
                group.move(name, f"{name}{EVIL}")


def rename_layers(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        for name in list(group):
            group.move(name, f"{name}{EVIL}")
        group.attrs["layer_names"] = [f"{name}".encode() for name in group]


def add_object(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file[f"model_weights/{EVIL}"] = h5py.ExternalLink(EVIL, EVIL)


def rename_members(path: Path) -> None:
    write_members(path, {f"{name}{EVIL}": content for name, content in read_members(path).items()})


def add_member(name: str) -> Change:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "content")

    return change


def add_file(path: Path) -> None:
    (path / EVIL).write_text("content")
    (path / f"{EVIL}.link").symlink_to(EVIL)


def change_graph(change_message: Callable[[Any], None]) -> Change:
    def change(path: Path) -> None:
        file = path / "saved_model.pb"
        message = SavedModel.FromString(file.read_bytes())
        for meta_graph in message.meta_graphs:
            change_message(meta_graph)
        file.write_bytes(message.SerializeToString())

    return change


def rename_signatures(meta_graph: Any) -> None:
    for entry in meta_graph.signature_def:
        entry.key += EVIL
        entry.value.method_name = EVIL
        for tensor in (*entry.value.inputs, *entry.value.outputs):
            tensor.key += EVIL
            tensor.value.name += EVIL


def rename_tags(meta_graph: Any) -> None:
    meta_graph.meta_info_def.tags.append(EVIL)
    meta_graph.meta_info_def.tensorflow_version = EVIL


def rename_operations(meta_graph: Any) -> None:
    for node in [
        *meta_graph.graph_def.node,
        *(each for f in meta_graph.graph_def.library.function for each in f.node_def),
    ]:
        node.op = f"{node.op}{EVIL}"


def rename_nodes(meta_graph: Any) -> None:
    for node in meta_graph.graph_def.node:
        node.name = f"{node.name}{EVIL}"


def rename_functions(meta_graph: Any) -> None:
    for function in meta_graph.graph_def.library.function:
        function.signature.name = f"{function.signature.name}{EVIL}"
        function.node_def.add(name=EVIL, op="WriteFile")


def rename_objects(meta_graph: Any) -> None:
    for node in meta_graph.object_graph_def.nodes:
        for child in node.children:
            child.local_name += EVIL


def add_keras_2_metadata(path: Path) -> None:
    metadata = {"class_name": EVIL, "name": EVIL, "config": {"name": EVIL, "layers": [{"class_name": EVIL}]}}
    written = SavedMetadata(nodes=[{"node_path": "root", "metadata": json.dumps(metadata), "identifier": EVIL}])
    (path / "keras_metadata.pb").write_bytes(written.SerializeToString())


def rename_assets(meta_graph: Any) -> None:
    asset = meta_graph.asset_file_def.add(filename=f"../{EVIL}")
    asset.tensor_info.name = EVIL


RECIPES: dict[str, Any] = {
    "keys": {EVIL: EVIL, "model": {"_target_": "exporter.sources.digits", EVIL: EVIL}, "options": {EVIL: [EVIL]}},
    "values": {"model": {"_target_": EVIL}, "save_format": EVIL, "seed": EVIL, "layout": {"kind": EVIL}},
    "files": {"model": {"_target_": "exporter.sources.file", "path": EVIL}, "filepath": EVIL, "save_format": "tf"},
    "variables": {"model": {"_target_": "exporter.sources.digits", "epochs": f"${{oc.env:{EVIL}}}"}},
    "resolvers": {"model": {"_target_": "exporter.sources.digits", "epochs": f"${{{EVIL}:1}}"}},
}


def write_recipe(recipe: Any) -> Change:
    def change(path: Path) -> None:
        text = yaml.safe_dump(recipe, allow_unicode=True)
        if path.is_dir():
            (path / "assets.extra/exporter/recipe.yaml").write_text(text, encoding="utf-8")
        elif zipfile.is_zipfile(path):
            members = read_members(path)
            metadata = json.loads(members["metadata.json"])
            metadata["exporter"]["notes"] = {"recipe.yaml": text}
            write_members(path, {**members, "metadata.json": json.dumps(metadata).encode()})
        else:
            with h5py.File(path, "r+") as file:
                file["exporter"].create_group("notes")["recipe.yaml"] = text

    return change


def write_damaged_recipe(path: Path) -> None:
    (path / "assets.extra/exporter/recipe.yaml").write_text(f"{EVIL}: [}}\n'", encoding="utf-8")


def forge_manifest(path: Path) -> None:
    write_manifest(path, path.name)
    (path / MANIFEST).write_text(
        change_json((path / MANIFEST).read_bytes(), lambda tree: spoil(tree, lambda key: key in ("path", "link"))),
        encoding="utf-8",
    )


def forge_version(path: Path) -> None:
    write_manifest(path, path.name)
    (path / MANIFEST).write_text(json.dumps({"version": EVIL, "files": []}), encoding="utf-8")


def forge_fields(path: Path) -> None:
    write_manifest(path, path.name)
    (path / MANIFEST).write_text(json.dumps({"version": 1, "files": [{EVIL: EVIL}]}), encoding="utf-8")


def keep(path: Path) -> None:
    """Changes nothing: the name of the artifact is enough."""


CHANGES: dict[str, tuple[str, Change]] = {
    **{
        f"{original}: {name}": (original, change_configuration(way))
        for original in ("tf", "h5", "keras", "stock.h5", "stock.keras")
        for name, way in WAYS.items()
    },
    **{
        f"{original}: recipe of {name}": (original, write_recipe(recipe))
        for original in ("tf", "h5", "keras")
        for name, recipe in RECIPES.items()
    },
    **{
        f"{original}: {change.__name__}": (original, change)
        for original in ("h5", "stock.h5")
        for change in (change_attributes, rename_groups, rename_layers, add_object)
    },
    **{
        f"{original}: {name}": (original, change)
        for original in ("keras", "stock.keras")
        for name, change in {
            "members": rename_members,
            "member": add_member(EVIL),
            "member outside": add_member(f"../{EVIL}"),
        }.items()
    },
    **{
        f"{original}: {change.__name__}": (original, change_graph(change))
        for original in ("tf", "graph")
        for change in (
            *(rename_signatures, rename_tags, rename_operations, rename_nodes),
            *(rename_functions, rename_objects, rename_assets),
        )
    },
    **{
        f"tf: {change.__name__}": ("tf", change)
        for change in (add_file, write_damaged_recipe, forge_manifest, forge_version, forge_fields)
    },
    "graph: metadata of Keras 2": ("graph", add_keras_2_metadata),
    **{f"{original}: its own name": (original, keep) for original in ("tf", "h5", "keras", "graph")},
}


def make_receipt(path: Path) -> Receipt:
    """Makes a receipt all of whose own words are evil, which `rerun` and `verify` read beside the artifact."""
    fields = json.loads(RECEIPT.to_json())
    fixed = ("status", "format", "started", "finished", "sha256", "kind")
    fields = spoil(fields, lambda key: key not in fixed)
    fields |= {
        "read": [EVIL],
        "versions": {EVIL: EVIL},
        "recipe": {**RECEIPT.recipe, EVIL: EVIL, "model": EVIL},
    }
    fields["signatures"] = {EVIL: {"inputs": {EVIL: {"shape": None, "dtype": EVIL}}, "outputs": {}}}
    fields["held"] = [{"what": EVIL, "detail": EVIL}]
    fields["left_out"] = [{"what": EVIL, "why": EVIL}]
    return replace(Receipt.from_json(json.dumps(fields)), files=record_files(path, path.name))


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_command_shows_of_an_artifact_is_text(
    name: str, originals: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    original, change = CHANGES[name]
    path = copy(originals[original], tmp_path)
    change(path)
    path = path.rename(tmp_path / f"{EVIL}{path.suffix}")
    if not path.is_dir():
        write_manifest(path, path.name)
    name_receipt(path).write_text(make_receipt(path).to_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    others = [path for kind, path in originals.items() if kind in ("tf", "h5", "keras")]
    for arguments in (
        ["inspect", str(path)],
        ["inspect", "--json", str(path)],
        ["diff", str(path), str(originals[original])],
        ["diff", "--json", str(originals[original]), str(path)],
        ["diff", str(others[0]), str(path)],
        ["diff", "--signatures", str(path), str(others[0])],
        ["verify", "--files-only", str(path)],
        ["verify", "--files-only", "--json", str(path)],
        ["rerun", str(path), f"{EVIL}=1"],
        ["rerun", str(path)],
    ):
        with suppress(SystemExit):
            run_command(arguments)
        shown = capfd.readouterr()
        assert shown.out + shown.err, arguments
        assert_is_text(shown.out + shown.err, arguments)
        assert "Traceback" not in shown.err, arguments


@pytest.mark.parametrize("name", CHANGES)
def test_why_an_artifact_is_not_loaded_is_text(
    name: str, originals: Mapping[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original, change = CHANGES[name]
    path = copy(originals[original], tmp_path)
    change(path)
    path = path.rename(tmp_path / f"{EVIL}{path.suffix}")
    capfd.readouterr()
    try:
        exporter.load_model(path)
    except ExporterError as error:
        assert_is_text(str(error), name)
    finally:
        keras.backend.clear_session()


def test_why_a_graph_is_refused_is_text(originals: Mapping[str, Path], tmp_path: Path) -> None:
    path = copy(originals["graph"], tmp_path)
    change_graph(rename_operations)(path)
    with pytest.raises(ArtifactError, match=r"is refused: \w+x\\x1b\]0;x") as caught:
        check_graph(path / "saved_model.pb")
    assert_is_text(str(caught.value), "operations")
    assert_is_text(str(ArtifactError(str(Harm(EVIL, EVIL, EVIL)))), "any harm")


def test_a_receipt_is_text(tmp_path: Path) -> None:
    path = tmp_path / f"{EVIL}.h5"
    path.write_bytes(b"content")
    receipt = make_receipt(path)
    for shown in (str(receipt), repr(receipt), receipt._repr_html_(), receipt.to_json(), str(receipt.machine)):
        assert "\\x1b" in shown or "\\u001b" in shown
        assert_is_text(shown, shown[:40])
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_sweep_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan_of(tmp_path, 3)
    cells = [replace(cell, overrides=(*cell.overrides, f"+note={EVIL}{cell.number}")) for cell in plan.cells]
    plan = replace(plan, cells=tuple(cells), recipe=EVIL, command=(EVIL,), job_command=(EVIL,))
    check = replace(RECEIPT.checks[0], name=EVIL, figure=EVIL, detail=EVIL)
    spoilt = {"filepath": str(tmp_path / EVIL), "host": EVIL, "error": EVIL, "checks": (check,), "held": RECEIPT.held}
    for cell, outcome in zip(cells, (Outcome.PROVEN, Outcome.PROVEN, Outcome.FAILED), strict=True):
        write_row(
            make_row(cell, **spoilt, outcome=outcome, exit_code=0 if outcome == "proven" else 3), Path(cell.directory)
        )
        (Path(cell.directory) / "exporter.log").write_text(f"{EVIL}\n", encoding="utf-8")
        (Path(cell.directory) / ".hydra").mkdir()
        (Path(cell.directory) / ".hydra/config.yaml").write_text(f"note: {EVIL}\n", encoding="utf-8")
    sweep = collect(plan)
    write_table(sweep)
    report = write_report(sweep)
    print_table(sweep, f"{report}{EVIL}")
    assert_is_text(capsys.readouterr().out, "table")
    for name in ("sweep.csv", "sweep.json"):
        assert_is_text((tmp_path / name).read_text(encoding="utf-8"), name)
    # A log and a recipe are shown with their own lines, in boxes of their own.
    page = report.read_text(encoding="utf-8")
    assert "\\x1b]0;x" in page
    assert not [each for each in STEERING if each in page]


def test_a_log_is_text(caplog: pytest.LogCaptureFixture) -> None:
    formatter = DiscreetFormatter("[%(name)s] - %(message)s")
    logger = logging.getLogger(EVIL)
    try:
        raise ValueError(EVIL) from OSError(EVIL)
    except ValueError:
        logger.exception("it said %s", EVIL, stack_info=True)
    [record] = caplog.records
    written = formatter.format(record)
    assert_is_text(written, "log")
    first, *others = written.split("\n")
    assert first.startswith("[x\\x1b]0;x\\x07")
    assert others
    assert all(line.startswith("  ") or not line for line in others)
