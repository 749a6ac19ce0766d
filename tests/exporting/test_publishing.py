"""The last step: what is refused, what is replaced, and where the receipts end up."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sample_receipt import RECEIPT

import exporter
from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Request
from exporter.errors import ExportError, TargetExistsError
from exporter.exporting.destinations.publishing import keep_receipt, place_request, publish_artifact
from exporter.storage import staging
from exporter.storage.sidecars import name_receipt, name_request
from exporter.storage.staging import stage_beside


def publish(target: Path, *, body: str | None = None, may_replace: bool = True, started: str = "") -> None:
    with stage_beside(target) as staged:
        staged.mkdir()
        (staged / "new").write_text("new")
        publish_artifact(staged, target, may_replace, replace(RECEIPT, started=started), body)


def make_old(target: Path) -> None:
    target.mkdir()
    (target / "stale").write_text("old")
    name_receipt(target).write_text("old receipt")
    name_request(target).write_text("old request")


def list_tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_staged_directory_takes_the_place_of_the_old_one_and_of_what_stood_beside_it(tmp_path: Path) -> None:
    make_old(tmp_path / "target")
    publish(tmp_path / "target")
    assert list_tree(tmp_path) == ["target", "target.receipt.json", "target/new"]
    assert Receipt.from_json((tmp_path / "target.receipt.json").read_text()).filepath == RECEIPT.filepath


def test_a_long_request_stands_beside_it(tmp_path: Path) -> None:
    publish(tmp_path / "target", body="{}")
    assert list_tree(tmp_path) == ["target", "target.receipt.json", "target.request.json", "target/new"]


def test_what_has_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    make_old(tmp_path / "target")
    with pytest.raises(TargetExistsError) as caught:
        publish(tmp_path / "target", may_replace=False)
    assert str(caught.value) == (
        f"{tmp_path / 'target'} has appeared while the model was exported, and `overwrite` is false. "
        "Choose another `filepath`, or allow it with overwrite=true."
    )
    assert list_tree(tmp_path) == ["target", "target.receipt.json", "target.request.json", "target/stale"]


def test_a_new_target_needs_no_permission_to_replace(tmp_path: Path) -> None:
    publish(tmp_path / "target", may_replace=False)
    assert (tmp_path / "target" / "new").read_text() == "new"


@pytest.mark.parametrize("name", [name_receipt, name_request], ids=["receipt", "request"])
def test_a_directory_in_the_place_of_a_file_is_found_before_anything_is_replaced(
    tmp_path: Path, name: Callable[[Path], Path]
) -> None:
    target = tmp_path / "target"
    make_old(target)
    name(target).unlink()
    name(target).mkdir()
    before = list_tree(tmp_path)
    with pytest.raises(IsADirectoryError, match="a directory stands where a file is needed"):
        publish(target, body="{}")
    assert list_tree(tmp_path) == before


def test_a_refused_replacement_leaves_the_receipt_of_the_old_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    make_old(target)
    before = list_tree(tmp_path)

    def refuse(staged: Path, target: Path, aside: Path) -> None:
        assert not name_receipt(target).exists(), "a receipt must never stand beside another artifact"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(staging, "take_place", refuse)
    with pytest.raises(PermissionError):
        publish(target)
    assert list_tree(tmp_path) == before
    assert name_receipt(target).read_text() == "old receipt"


def test_a_receipt_that_cannot_take_its_place_is_said_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ExportError) as caught:
        publish(tmp_path / "target")
    monkeypatch.setattr(Path, "replace", move)
    assert str(caught.value) == (
        f"{tmp_path / 'target'} is published, and what belongs beside it could not be written: [Errno 122] Disk quota "
        "exceeded. Export it again to have it complete."
    )
    assert list_tree(tmp_path) == ["target", "target/new"]


def test_the_receipt_is_kept_in_the_directory_of_the_run_too(tmp_path: Path) -> None:
    keep_receipt(RECEIPT, tmp_path / "runs" / "1")
    assert os.listdir(tmp_path / "runs" / "1") == ["receipt.json"]
    assert Receipt.from_json((tmp_path / "runs" / "1" / "receipt.json").read_text(encoding="utf-8")) == RECEIPT


@pytest.mark.parametrize(
    ("made", "request_", "body"),
    [
        pytest.param(None, None, None, id="none"),
        pytest.param(("judge", "x" * 400), Request("judge", "x" * 400, None), None, id="short"),
        pytest.param(("judge", "x" * 401), Request("judge", None, "/a/model.request.json"), "x" * 401, id="long"),
    ],
)
def test_a_short_request_is_kept_in_the_receipt_and_a_long_one_beside_the_artifact(
    made: tuple[str, str] | None, request_: Request | None, body: str | None
) -> None:
    assert place_request(made, Path("/a/model")) == (request_, body)


@pytest.mark.parametrize("save", [True, False], ids=["save_model", "export"])
def test_the_signature_of_what_is_replaced_goes_with_it(save: bool, tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    target = tmp_path / "model.keras"
    signature = tmp_path / "model.keras.sig"
    target.write_bytes(b"former")
    signature.write_text("of the former one")
    if save:
        exporter.save_model(model, target)
    else:
        exporter.export(model, target, save_format="keras", verify={"mode": "none"})
    assert target.is_file()
    assert not signature.exists()
