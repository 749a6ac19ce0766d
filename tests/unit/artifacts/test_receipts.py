"""The receipt: a round trip through JSON, the files' digests, and what is no receipt."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_receipt import RECEIPT

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import (
    Check,
    CheckKind,
    Phase,
)
from exporter.artifacts.versions import read_versions
from exporter.errors import ArtifactError
from exporter.saving.contents import Omission, OmissionKind
from exporter.storage.digests import FileRecord, digest_files, record_files
from exporter.sweeps.records.results import JobResult, SweepJob, describe_success

CHECK = {"name": "predictions", "passed": True, "figure": "bit-equal", "detail": "batch size 1"}


def test_a_receipt_comes_back_from_json() -> None:
    text = RECEIPT.to_json()

    assert Receipt.from_json(text) == RECEIPT
    assert text.endswith("}\n")
    assert "zahlen ✓" in text


def test_kinds_come_back_from_json() -> None:
    check = Check("weights", True, "bit-equal", "an endpoint of that name", kind=CheckKind.OUTPUTS)
    left_out = Omission("proof of itself", "a layer of that name", kind=OmissionKind.CONTENT)
    receipt = Receipt.from_json(replace(RECEIPT, checks=(check,), left_out=(left_out,)).to_json())
    assert [each.kind for each in receipt.checks] == [CheckKind.OUTPUTS]
    assert [each.kind for each in receipt.left_out] == [OmissionKind.CONTENT]


def test_kinds_are_told_by_the_names_of_the_version_before() -> None:
    checks = {
        "load": CheckKind.FACTS,
        "predictions": CheckKind.OUTPUTS,
        "weights": CheckKind.STATE,
        "random state": CheckKind.STATE,
        "compile": CheckKind.FACTS,
        "training step": CheckKind.TRAINING,
        "serving_default": CheckKind.OUTPUTS,
    }
    left_out = {
        "metric accumulators": OmissionKind.CONTENT,
        "Keras twin": OmissionKind.TWIN,
        "stock Keras": OmissionKind.STOCK_KERAS,
        "proof of a training step": OmissionKind.COMPARISON,
    }
    fields = json.loads(RECEIPT.to_json())
    fields["checks"] = [{"name": name, "passed": True, "figure": "equal", "detail": "it"} for name in checks]
    fields["left_out"] = [{"what": what, "why": "it is", "intended": False} for what in left_out]
    receipt = Receipt.from_json(json.dumps(fields))
    assert {check.name: check.kind for check in receipt.checks} == checks
    assert {each.what: each.kind for each in receipt.left_out} == left_out


def test_phases_are_told_by_the_words_of_the_version_before() -> None:
    words = ["start TensorFlow", "build the model", "trace the endpoints", "write the artifact", "prove it"]
    words += ["measure it", "publish it"]
    fields = json.loads(RECEIPT.to_json()) | {"seconds": dict.fromkeys(words, 0.5)}
    receipt = Receipt.from_json(json.dumps(fields))
    assert list(receipt.seconds) == list(Phase)
    assert [phase.words for phase in receipt.seconds] == words
    assert list(json.loads(receipt.to_json())["seconds"]) == [phase.value for phase in Phase]


@pytest.mark.parametrize(
    ("kind", "is_offered"),
    [
        pytest.param(OmissionKind.STOCK_KERAS, False, id="stock Keras"),
        pytest.param(OmissionKind.CONTENT, True, id="a layer of that name"),
    ],
)
def test_stock_keras_is_offered_unless_it_does_not_load_the_same(kind: OmissionKind, is_offered: bool) -> None:
    receipt = replace(RECEIPT, format="keras", left_out=(Omission("stock Keras", "it is", kind=kind),))
    assert ("keras.models.load_model" in str(receipt)) is is_offered


def test_what_is_measured_is_told_by_kind_and_not_by_name() -> None:
    """An endpoint may be called like a kind of variables, or like a training step."""
    checks = (
        Check("weights", True, "", "", 0.5, CheckKind.OUTPUTS),
        Check("training step", True, "", "", 0.25, CheckKind.OUTPUTS),
        Check("optimizer", True, "", "", 0.125, CheckKind.STATE),
        Check("training step", True, "", "", 0.0, CheckKind.TRAINING),
    )
    cell = SweepJob(number=0, overrides=(), recipe_hash="", filepath="/model", format="tf", directory="/job")
    row = describe_success(cell, replace(RECEIPT, checks=checks))
    assert (row.output_difference, row.state_difference, row.resumes) == (0.5, 0.125, True)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"checks": ["predictions"]}, id="a check is a text"),
        pytest.param({"checks": [{"name": ["predictions"]}]}, id="a name is a list"),
        pytest.param({"checks": [{**CHECK, "kind": "more"}]}, id="an unknown kind of check"),
        pytest.param({"left_out": [1]}, id="what is left out is a number"),
        pytest.param({"left_out": [{"what": "it", "why": "it is", "kind": {}}]}, id="an unknown kind of omission"),
        pytest.param({"seconds": {"bake it": 1.0}}, id="an unknown phase"),
        pytest.param({"seconds": [1.0]}, id="durations without phases"),
    ],
)
def test_a_damaged_outcome_is_refused(damage: dict[str, Any]) -> None:
    cell = SweepJob(number=0, overrides=(), recipe_hash="", filepath="/model", format="tf", directory="/job")
    row = json.loads(describe_success(cell, RECEIPT).to_json())
    with pytest.raises(ArtifactError, match=r"^The row is damaged: .*\. Run its job again\.$"):
        JobResult.from_json(json.dumps({**row, "receipt": {**row["receipt"], **damage}}))
    with pytest.raises(
        ArtifactError, match=r"^The receipt is damaged: .*\. Export the model again to get a new one\.$"
    ):
        Receipt.from_json(json.dumps({**json.loads(RECEIPT.to_json()), **damage}))


def test_every_field_is_written() -> None:
    assert list(json.loads(RECEIPT.to_json())) == list(Receipt.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "{",
            "This is not a receipt: Expecting property name enclosed in double quotes: line 1 column 2 (char 1). "
            "Expected the JSON that an export writes beside its artifact.",
            id="no JSON",
        ),
        pytest.param(
            "{}",
            "This is not a receipt: 'schema_version'. Expected the JSON that an export writes beside its artifact.",
            id="another JSON",
        ),
        pytest.param(
            '{"schema_version": 99}',
            "The receipt has schema_version 99; this version of exporter reads 1. "
            "Read it with the version of exporter that it names under `versions`.",
            id="a later version",
        ),
        pytest.param(
            '{"schema_version": 1}',
            "The receipt is damaged: it has no 'status'. Export the model again to get a new one.",
            id="a field is missing",
        ),
    ],
)
def test_what_is_no_receipt_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Receipt.from_json(text)
    assert str(caught.value) == message


def test_a_receipt_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"^This is not a receipt: .* Expected the JSON that an export writes"):
        Receipt.from_json("[" * 100_000)


def test_a_wrong_type_inside_is_refused() -> None:
    fields = json.loads(RECEIPT.to_json())
    fields["checks"] = [{"name": "predictions"}]
    with pytest.raises(ArtifactError, match=r"^The receipt is damaged: it\.checks\[0\] has no 'passed'\. Export"):
        Receipt.from_json(json.dumps(fields))


def test_the_files_of_a_directory_are_listed_with_their_digests(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(b"x" * 3_000_000)
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "weights").symlink_to("variables/data")

    assert record_files(tmp_path, "model") == (
        FileRecord("a", 0, hashlib.sha256(b"").hexdigest(), None),
        FileRecord("variables/data", 3_000_000, hashlib.sha256(b"x" * 3_000_000).hexdigest(), None),
        FileRecord("weights", 0, None, "variables/data"),
    )


def test_a_single_file_gets_the_name_of_the_artifact(tmp_path: Path) -> None:
    staged = tmp_path / ".staged-model.h5"
    staged.write_bytes(b"abc")
    assert record_files(staged, "model.h5") == (FileRecord("model.h5", 3, hashlib.sha256(b"abc").hexdigest(), None),)


def test_the_versions_of_packages_that_are_not_installed_are_left_out() -> None:
    versions = read_versions({"numpy": "numpy", "nothing": "there-is-no-such-distribution"})
    assert list(versions) == ["numpy"]


def test_two_receipts_that_differ_are_not_equal() -> None:
    assert Receipt.from_json(replace(RECEIPT, host="there").to_json()) != RECEIPT


def test_the_digest_of_an_artifact_is_the_files_own_or_that_of_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    (folder / "link").symlink_to("variables/data")
    graph, weights = (hashlib.sha256(content).hexdigest() for content in (b"graph", b"weights"))
    listing = f"variables/data  link\n{graph}  saved_model.pb\n{weights}  variables/data\n"
    assert digest_files(record_files(folder, "model")) == hashlib.sha256(listing.encode()).hexdigest()
    assert digest_files(record_files(folder / "saved_model.pb", "renamed.h5")) == graph
