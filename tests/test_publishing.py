"""The last step: what is refused, what is replaced, and where the receipts end up."""

from pathlib import Path

import pytest
from test_receipts import RECEIPT

from exporter.errors import TargetExistsError
from exporter.publishing import name_receipt, publish_artifact, publish_receipt, publish_request
from exporter.receipts import Receipt, Request


def test_a_staged_directory_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    staged, target = tmp_path / "staged", tmp_path / "target"
    staged.mkdir()
    (staged / "new").write_text("new")
    target.mkdir()
    (target / "stale").write_text("old")

    publish_artifact(staged, target, replace=True)

    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_has_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    staged, target = tmp_path / "staged", tmp_path / "target"
    staged.write_text("new")
    target.write_text("old")

    with pytest.raises(TargetExistsError) as caught:
        publish_artifact(staged, target, replace=False)

    assert str(caught.value) == (
        f"{target} has appeared while the model was exported, and `overwrite` is false. "
        "Choose another `filepath`, or allow it with overwrite=true."
    )
    assert target.read_text() == "old"


def test_a_new_target_needs_no_permission_to_replace(tmp_path: Path) -> None:
    staged, target = tmp_path / "staged", tmp_path / "target"
    staged.write_text("new")
    publish_artifact(staged, target, replace=False)
    assert target.read_text() == "new"
    assert not staged.exists()


def test_the_receipt_stands_beside_the_artifact_and_in_the_directory_of_the_run(tmp_path: Path) -> None:
    target, run_directory = tmp_path / "model.h5", tmp_path / "runs" / "1"
    name_receipt(target).write_text("the receipt of the old artifact")

    path = publish_receipt(RECEIPT, target, run_directory)

    assert path == tmp_path / "model.h5.receipt.json"
    assert Receipt.from_json(path.read_text(encoding="utf-8")) == RECEIPT
    assert (run_directory / "receipt.json").read_bytes() == path.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.h5.receipt.json", "runs"]


def test_without_a_run_the_receipt_is_written_once(tmp_path: Path) -> None:
    publish_receipt(RECEIPT, tmp_path / "model", None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.receipt.json"]


def test_a_short_request_is_kept_in_the_receipt_and_a_long_one_beside_the_artifact(tmp_path: Path) -> None:
    target, beside = tmp_path / "model", tmp_path / "model.request.json"
    assert publish_request(("judge", "x" * 401), target) == Request("judge", None, str(beside))
    assert beside.read_text() == "x" * 401
    assert publish_request(("judge", "x" * 400), target) == Request("judge", "x" * 400, None)
    assert publish_request(None, target) is None
    assert list(tmp_path.iterdir()) == []
