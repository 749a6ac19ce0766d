"""A whole export from plain Python: its receipt, its failures, and what they leave behind."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from exporter import ExportConfig, ModelError, ProofError, TargetExistsError, UsageError, load_model
from exporter.artifacts.manifest import check_integrity
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Phase, Status
from exporter.config import (
    LayoutConfig,
    LayoutKind,
    OptionsConfig,
    SignatureConfig,
    TensorConfig,
    VerifyConfig,
    VerifyMode,
)
from exporter.errors import ExportError
from exporter.exporting import job
from exporter.exporting.provenance import describe_recipe
from exporter.exporting.session import ExportSession
from exporter.saving.contents import Contents, Omission, Tensor, note_lost
from exporter.saving.graph.endpoints import read_meta_graph
from exporter.saving.plans import SavePlan, describe

PHASES = [Phase.START, Phase.BUILD, Phase.WRITE, Phase.PROVE, Phase.PUBLISH]


# As in a sweep, one process proves an artifact after the other.
SESSION = ExportSession()
export = partial(job.run_export, session=SESSION)


@pytest.fixture(scope="module", autouse=True)
def workshop_closed() -> Iterator[None]:
    yield
    SESSION.close()


def make_model(seed: int = 1) -> Any:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(2, name="scores")], name="small")
    model.compile("sgd", "mean_squared_error")
    return model


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("save_format", "name"),
    [
        pytest.param("tf", "model", id="tf"),
        pytest.param("h5", "model.h5", id="h5"),
        pytest.param("keras", "model.keras", id="keras"),
    ],
)
def test_a_live_model_is_exported_and_proven(save_format: str, name: str, tmp_path: Path) -> None:
    model = make_model()
    run_directory = tmp_path / "run"

    receipt = job.run_export(
        ExportConfig(model=model, filepath=str(tmp_path / "out" / name), save_format=save_format),
        run_directory=run_directory,
    )

    assert receipt.status is Status.PROVEN
    assert receipt.filepath == str(tmp_path / "out" / name)
    assert receipt.format == save_format
    assert list(receipt.seconds) == PHASES
    assert all(check.passed for check in receipt.checks)
    assert receipt.total_bytes == sum(record.size for record in receipt.files)
    assert receipt.recipe["model"] == {"live": "keras.src.models.sequential.Sequential", "name": "small"}
    assert {"exporter", "python", "tensorflow", "keras", "h5py", "numpy"} <= receipt.versions.keys()
    assert receipt.peak_memory_bytes > 100_000_000
    assert list_names(tmp_path / "out") == [name, f"{name}.receipt.json"]
    beside = (tmp_path / "out" / f"{name}.receipt.json").read_text(encoding="utf-8")
    assert Receipt.from_json(beside) == receipt
    assert (run_directory / "receipt.json").read_text(encoding="utf-8") == beside
    integrity = check_integrity(Path(receipt.filepath))
    assert integrity.witnesses == ("manifest" if save_format == "tf" else "digest", "receipt")
    assert integrity.mismatches == ()
    batch = np.ones((2, 4), np.float32)
    loaded = load_model(receipt.filepath)
    assert np.array_equal(loaded.predict_on_batch(batch), model.predict_on_batch(batch))


def test_nothing_is_printed_without_a_reporter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(ExportConfig(model=make_model(), filepath=str(tmp_path / "model.h5")))
    assert capfd.readouterr() == ("", "")


def test_an_artifact_holds_its_recipe_and_no_date(tmp_path: Path) -> None:
    config = ExportConfig(model=make_model(), filepath=str(tmp_path / "model"), seed=7)
    export(config)
    inside = tmp_path / "model" / "assets.extra" / "exporter"
    assert yaml.safe_load((inside / "recipe.yaml").read_bytes()) == describe_recipe(config)
    assert list(json.loads((inside / "versions.json").read_bytes())) == [
        "python",
        "exporter",
        "tensorflow",
        "keras",
        "h5py",
        "numpy",
    ]


def test_the_recipe_is_plain_data() -> None:
    config = ExportConfig(
        model={"_target_": "exporter.sources.digits", "epochs": 1},
        filepath="out",
        save_format="tf",
        signatures={"serving_default": SignatureConfig(inputs={"pixels": TensorConfig(shape=[None, 8, 8, 1])})},
    )
    recipe = describe_recipe(config)
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["save_format"] == "tf"
    assert type(recipe["save_format"]) is str
    assert recipe["signatures"]["serving_default"]["inputs"]["pixels"] == {
        "shape": [None, 8, 8, 1],
        "dtype": None,
        "ragged_rank": None,
    }


def test_without_a_proof_the_artifact_is_only_written(tmp_path: Path) -> None:
    receipt = export(
        ExportConfig(model=make_model(), filepath=str(tmp_path / "model.h5"), verify=VerifyConfig(mode=VerifyMode.NONE))
    )
    assert receipt.status is Status.WRITTEN
    assert receipt.checks == ()
    assert list(receipt.seconds) == [phase for phase in PHASES if phase is not Phase.PROVE]


def test_a_receipt_that_cannot_be_written_is_said_apart(tmp_path: Path) -> None:
    occupied = tmp_path / "run"
    occupied.touch()
    config = ExportConfig(
        model=make_model(), filepath=str(tmp_path / "model.h5"), verify=VerifyConfig(mode=VerifyMode.NONE)
    )
    with pytest.raises(ExportError) as caught:
        export(config, run_directory=occupied)
    assert str(caught.value).startswith(f"{tmp_path / 'model.h5'} is published, and its receipt could not be written: ")
    load_model(tmp_path / "model.h5")


def test_a_reload_is_no_proof(tmp_path: Path) -> None:
    receipt = export(
        ExportConfig(
            model=make_model(), filepath=str(tmp_path / "model.h5"), verify=VerifyConfig(mode=VerifyMode.RELOAD)
        )
    )
    assert receipt.status is Status.WRITTEN
    assert [check.name for check in receipt.checks] == ["load", "predictions"]


def write_another_model(plan: SavePlan, staged: Path, notes: Any = None) -> Contents:
    """Writes, through the real writer, a model whose weights differ from those of the plan."""
    changed = keras.models.clone_model(plan.request.model)
    changed.set_weights([weight.numpy() + np.float32(0.5) for weight in plan.request.model.weights])
    changed.compile("sgd", "mean_squared_error")
    return WRITE(describe(replace(plan.request, model=changed)), staged, notes)


WRITE = SavePlan.write


@pytest.mark.parametrize("name", ["model", "model.h5", "model.keras"])
def test_a_failed_proof_publishes_nothing_and_keeps_the_old_artifact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExportConfig(model=make_model(), filepath=str(tmp_path / name))
    old = export(config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(SavePlan, "write", write_another_model)

    with pytest.raises(ProofError) as caught:
        export(ExportConfig(model=make_model(2), filepath=str(tmp_path / name)))

    message = str(caught.value)
    paths = "layers/dense/vars/0, layers/dense/vars/1"
    assert f"\n  weights: of 2 tensors, 2 changed, largest difference 0.5; {paths}\n" in message
    assert "\n  predictions: largest difference " in message
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert Receipt.from_json((tmp_path / f"{name}.receipt.json").read_text(encoding="utf-8")) == old


def test_an_old_artifact_that_may_not_be_replaced_stays(tmp_path: Path) -> None:
    target = tmp_path / "model.h5"
    target.write_bytes(b"old")
    with pytest.raises(TargetExistsError) as caught:  # before the model is built, which would fail
        export(ExportConfig(model={"_target_": "builtins.exit"}, filepath=str(target), overwrite=False))
    assert str(caught.value) == (
        f"{target} exists and `overwrite` is false. Choose another `filepath`, or allow it with overwrite=true."
    )
    assert target.read_bytes() == b"old"
    assert list_names(tmp_path) == ["model.h5"]


def test_what_appears_during_the_export_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.h5"

    def write_beside_somebody_else(plan: SavePlan, staged: Path, notes: Any = None) -> Contents:
        target.write_bytes(b"somebody else's")
        return WRITE(plan, staged, notes)

    monkeypatch.setattr(SavePlan, "write", write_beside_somebody_else)
    with pytest.raises(TargetExistsError, match="has appeared while the model was exported"):
        export(ExportConfig(model=make_model(), filepath=str(target), overwrite=False))
    assert target.read_bytes() == b"somebody else's"
    assert list_names(tmp_path) == ["model.h5"]


def leave_something_out(plan: SavePlan, staged: Path, notes: Any = None) -> Contents:
    contents = WRITE(plan, staged, notes)
    return Contents(contents.held, (Omission("vocabulary", "the format has no place for it."),), contents.signatures)


def test_strict_refuses_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SavePlan, "write", leave_something_out)
    with pytest.raises(ModelError) as caught:
        export(ExportConfig(model=make_model(), filepath=str(tmp_path / "model.h5"), strict=True))
    assert str(caught.value) == (
        "The format 'h5' does not hold all of the model, and `strict` is true; nothing was published.\n"
        "  vocabulary: the format has no place for it.\n"
        "Choose another `save_format`, or list it as left out with strict=false."
    )
    assert list_names(tmp_path) == []


def test_strict_says_that_the_source_has_lost_it(tmp_path: Path) -> None:
    model = make_model()
    note_lost(model, [Omission("older file", "it had no state.")])
    with pytest.raises(ModelError) as caught:
        export(ExportConfig(model=model, filepath=str(tmp_path / "model.keras"), strict=True))
    assert str(caught.value) == (
        "The file that the model comes from did not hold all of the model, and `strict` is true; nothing was "
        "published.\n  older file: it had no state.\nList it as left out with strict=false."
    )


def test_strict_allows_what_was_asked_for(tmp_path: Path) -> None:
    receipt = export(
        ExportConfig(model=make_model(), filepath=str(tmp_path / "model.keras"), include_optimizer=False, strict=True)
    )
    assert [entry.what for entry in receipt.left_out] == ["optimizer and compile configuration"]


def test_values_out_of_range_fail_before_the_model_is_built(tmp_path: Path) -> None:
    config = ExportConfig(
        model=lambda: None,
        filepath=str(tmp_path / "model.h5"),
        save_format="keras",
        verify=VerifyConfig(batch_sizes=[0]),
    )
    with pytest.raises(UsageError) as caught:
        export(config)
    assert [fault.path for fault in caught.value.faults] == ["filepath", "verify.batch_sizes"]


def test_without_strict_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SavePlan, "write", leave_something_out)
    receipt = export(ExportConfig(model=make_model(), filepath=str(tmp_path / "model.h5")))
    assert receipt.left_out == (Omission("vocabulary", "the format has no place for it."),)


def test_a_fault_of_the_file_system_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(plan: SavePlan, staged: Path, notes: Any = None) -> Contents:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SavePlan, "write", fill_the_disk)
    target = tmp_path / "model.h5"
    with pytest.raises(ExportError) as caught:
        export(ExportConfig(model=make_model(), filepath=str(target)))
    assert str(caught.value) == (
        f"{target} could not be written: [Errno 28] No space left on device. What was there is unchanged. "
        "Free space, or choose a `filepath` in a directory that can be written."
    )
    assert list_names(tmp_path) == []


def test_a_declared_endpoint_is_written_and_called(tmp_path: Path) -> None:
    declared = SignatureConfig(inputs={"features": TensorConfig(shape=[2, 4])}, outputs=["scores"])
    receipt = export(
        ExportConfig(
            model=make_model(),
            filepath=str(tmp_path / "model"),
            signatures={"pair": declared},
            options=OptionsConfig(function_aliases={"judge": "pair"}),
        )
    )
    assert receipt.signatures["pair"].inputs == {"features": Tensor((2, 4), "float32")}
    assert receipt.signatures["pair"].outputs == {"scores": Tensor((2, 2), "float32")}
    assert "pair" in [check.name for check in receipt.checks]


def test_every_fault_of_a_declaration_is_named(tmp_path: Path) -> None:
    declared = SignatureConfig(
        inputs={"pixels": TensorConfig(), "features": TensorConfig(shape=[None, 5], dtype="int32")},
        outputs=["labels"],
    )
    with pytest.raises(UsageError) as caught:
        export(ExportConfig(model=make_model(), filepath=str(tmp_path / "model"), signatures={"judge": declared}))
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("signatures.judge.inputs.pixels", "the model has no such input. Its inputs: features."),
        ("signatures.judge.inputs.features.shape", "received [null, 5], which does not fit the model's [null, 4]."),
        ("signatures.judge.inputs.features.dtype", "received 'int32'. The model takes 'float32'."),
        (
            "signatures.judge.outputs",
            "the model has no output 'labels'. Its outputs: scores. The model's own: features float32 [null, 4] -> "
            "scores.",
        ),
    ]
    assert list_names(tmp_path) == []


def test_an_alias_names_the_endpoint_that_is_there_without_a_declaration(tmp_path: Path) -> None:
    options = OptionsConfig(function_aliases={"judge": "serving_default"})
    receipt = export(ExportConfig(model=make_model(), filepath=str(tmp_path / "model"), options=options))
    assert receipt.signatures["serving_default"].outputs == {"scores": Tensor((None, 2), "float32")}
    assert list(read_meta_graph(tmp_path / "model").meta_info_def.function_aliases.values()) == ["judge"]


def test_custom_operations_are_refused_unless_their_namespace_is_listed(tmp_path: Path) -> None:
    import custom_operation

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(custom_operation.copy, output_shape=(4,))(inputs))
    config = ExportConfig(model=model, filepath=str(tmp_path / "model"), verify=VerifyConfig(mode=VerifyMode.NONE))
    with pytest.raises(ModelError, match=re.escape("options: {namespace_whitelist: [Exporter]}")):
        export(config)
    assert list_names(tmp_path) == []
    export(replace(config, options=OptionsConfig(namespace_whitelist=["Exporter"])))
    assert (tmp_path / "model" / "saved_model.pb").is_file()


def test_versions_are_numbered_and_the_newest_are_kept(tmp_path: Path) -> None:
    config = ExportConfig(
        model=make_model(),
        filepath=str(tmp_path / "small"),
        layout=LayoutConfig(kind=LayoutKind.TF_SERVING, keep=2),
        verify=VerifyConfig(mode=VerifyMode.NONE),
    )
    receipts = [export(config) for _ in range(3)]
    assert [receipt.filepath for receipt in receipts] == [str(tmp_path / "small" / str(number)) for number in (1, 2, 3)]
    names = [name for name in list_names(tmp_path / "small") if not name.startswith(".")]
    assert names == ["1.receipt.json", "2", "2.receipt.json", "3", "3.receipt.json"]
    assert np.array_equal(load_model(receipts[2].filepath).get_weights()[0], config.model.get_weights()[0])


def test_the_same_recipe_gives_the_same_bytes_in_every_version(tmp_path: Path) -> None:
    config = ExportConfig(
        model=make_model(),
        filepath=str(tmp_path / "small"),
        layout=LayoutConfig(kind=LayoutKind.TF_SERVING),
        verify=VerifyConfig(mode=VerifyMode.NONE),
    )
    first, second = (export(config).files for _ in range(2))
    assert first == second


def test_importing_the_program_imports_no_tensorflow() -> None:
    script = "import sys, exporter.exporting.job; sys.exit(bool({'tensorflow', 'keras', 'h5py'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=1500)


def test_a_failed_proof_ends_the_command_with_4(tmp_path: Path) -> None:
    """The model's own function makes the process write another model than the one it returns."""
    (tmp_path / "tampering.py").write_text(
        "import keras, numpy\n"
        "from exporter.saving.plans import SavePlan\n"
        "\n"
        "def build(epochs, batch_size):\n"
        "    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
        "    write = SavePlan.write\n"
        "    def write_another(plan, staged, notes=None):\n"
        "        weights = model.get_weights()\n"
        "        model.set_weights([weight + numpy.float32(0.5) for weight in weights])\n"
        "        contents = write(plan, staged, notes)\n"
        "        model.set_weights(weights)\n"
        "        return contents\n"
        "    SavePlan.write = write_another\n"
        "    return model\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "model._target_=tampering.build", "filepath=out/model"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 4, done.stderr
    assert "weights: of 2 tensors, 2 changed, largest difference 0.5" in done.stderr
    assert not (tmp_path / "out").exists()
