"""Artifacts in a store behind a URL, on a real S3 API: sent, checked, resumed, replaced, numbered and fetched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from object_store import ObjectStore, serve_objects
from s3fs import S3FileSystem
from stored_models import make_model, run
from unreliable_network import UnreliableNetwork, lose_connections

from exporter import load_model
from exporter.artifacts.receipt import Receipt
from exporter.cli.commands import run_command
from exporter.config import LayoutConfig, LayoutKind
from exporter.errors import ArgumentError, ExportError, TargetExistsError
from exporter.saving.contents import format_bytes
from exporter.storage.remote import Store, explain_url, fetch

pytestmark = pytest.mark.xdist_group("stores")


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    settings = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with serve_objects() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**settings, "AWS_ENDPOINT_URL": server.endpoint}.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("models")
        yield server


@pytest.fixture
def bucket(server: ObjectStore, request: pytest.FixtureRequest) -> Iterator[str]:
    server.forget()
    yield f"s3://models/{request.node.name.replace('[', '-').rstrip(']')}"
    server.forget()


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model()


def make_file(path: Path, size: int) -> tuple[Path, str]:
    path.write_bytes(np.random.default_rng(1).bytes(size))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def list_objects(url: str) -> list[str]:
    return sorted(Store(url).list_objects())


@pytest.mark.parametrize("name", ["model", "model.h5", "model.keras"])
def test_an_artifact_comes_back_from_the_store_in_the_exact_state(bucket: str, model: Any, name: str) -> None:
    url = f"{bucket}/{name}"
    receipt = run(url)
    assert receipt.filepath == url
    assert Receipt.from_json(Store(bucket).read(f"{name}.receipt.json").decode()) == receipt  # type: ignore[union-attr]
    assert not [each for each in list_objects(bucket) if each.startswith(".")]
    again = load_model(url)
    batch = np.ones((2, 4), "float32")
    assert np.array_equal(again.predict(batch, verbose=0), model.predict(batch, verbose=0))
    for loaded, variable in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        assert np.array_equal(loaded.numpy(), variable.numpy())


def test_the_graph_becomes_visible_last_and_the_weights_are_sent_once(
    bucket: str, model: Any, server: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = run(f"{bucket}/model")
    placed = [path for path in server.list_sent() if "/model/" in path]
    assert placed[-1].endswith("/model/saved_model.pb")
    assert server.list_sent()[-1].endswith("/model.receipt.json")
    assert "model.weights.h5" not in list_objects(f"{bucket}/model")
    assert [(each.what, each.intended) for each in receipt.left_out if "link" in each.why] == [
        ("model.weights.h5", True)
    ]
    fetched = fetch(f"{bucket}/model")
    assert os.readlink(fetched / "model.weights.h5") == "variables/variables.data-00000-of-00001"
    assert run_command(["verify", receipt.filepath]) == 0
    files = f"{len(receipt.files) - 1} files, {format_bytes(receipt.total_bytes)}"
    expected = f"✓ {receipt.filepath}: {files}, all as exported, by its manifest and its receipt\n"
    assert capsys.readouterr().out.startswith(expected)


def test_replacing_leaves_nothing_of_the_former_artifact(bucket: str, model: Any) -> None:
    run(f"{bucket}/model")
    Store(bucket).write("model/assets/stale.txt", b"stale")
    before = list_objects(f"{bucket}/model")
    run(f"{bucket}/model")
    assert set(before) - set(list_objects(f"{bucket}/model")) == {"assets/stale.txt"}


def test_what_exists_is_not_replaced_without_overwrite(bucket: str, model: Any) -> None:
    run(f"{bucket}/model.h5")
    before = Store(bucket).read("model.h5")
    with pytest.raises(TargetExistsError) as refused:
        run(f"{bucket}/model.h5", overwrite=False)
    assert str(refused.value) == (
        f"{bucket}/model.h5 exists, and `overwrite` is false. Choose another `filepath`, or allow it with "
        "overwrite=true."
    )
    assert Store(bucket).read("model.h5") == before


def test_versions_are_numbered_and_the_older_ones_go(bucket: str, model: Any) -> None:
    layout = LayoutConfig(kind=LayoutKind.TF_SERVING, keep=2, warmup=False)
    receipts = [run(f"{bucket}/model", layout=layout) for _ in range(3)]
    assert [receipt.filepath for receipt in receipts] == [f"{bucket}/model/{number}" for number in (1, 2, 3)]
    names = list_objects(f"{bucket}/model")
    assert {name.split("/")[0] for name in names} == {"1.receipt.json", "2", "2.receipt.json", "3", "3.receipt.json"}


@pytest.mark.parametrize("status", [503, 500])
def test_transient_faults_are_tried_again(bucket: str, model: Any, server: ObjectStore, status: int) -> None:
    server.refusal = status
    server.refuses = lambda number, method, path: number % 30 == 0
    run(f"{bucket}/model.h5")
    server.forget()
    assert load_model(f"{bucket}/model.h5").name == "tiny"


@pytest.fixture
def network(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnreliableNetwork]:
    with lose_connections(int(server.endpoint.rpartition(":")[2])) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        S3FileSystem.clear_instance_cache()
        yield network
        S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("way", ["sent", "received"])
@pytest.mark.parametrize("limit", [pytest.param(0, id="at once"), pytest.param(500_000, id="in the middle")])
def test_a_connection_that_is_reset_costs_nothing(
    bucket: str, network: UnreliableNetwork, tmp_path: Path, way: str, limit: int
) -> None:
    file, digest = make_file(tmp_path / "weights", 3 << 20)
    store = Store(bucket)
    setattr(network, way, lambda number: limit if number < 2 else None)
    store.put(file, "weights")
    store.get("weights", tmp_path / "fetched")
    assert network.connections > 2
    assert store.holds("weights", file, digest)
    assert (tmp_path / "fetched").read_bytes() == file.read_bytes()


def test_an_export_over_a_network_that_loses_connections_is_complete(
    bucket: str, model: Any, network: UnreliableNetwork
) -> None:
    network.sent = lambda number: 700 if number % 20 == 0 else None
    network.received = lambda number: 100 if number % 20 == 10 else None
    receipt = run(f"{bucket}/model")
    assert network.connections > 40
    assert run_command(["verify", receipt.filepath, "--files-only"]) == 0


def test_an_answer_that_does_not_come_is_asked_for_again(
    bucket: str, server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What users write into FSSPEC_S3 or a file of fsspec's.
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.3}})
    S3FileSystem.clear_instance_cache()
    file, digest = make_file(tmp_path / "weights", 1000)
    store = Store(bucket)
    store.exists("weights")  # the first request of all makes the client, which takes its time
    server.pauses = lambda number, method, path: 1.0 if server.list_sent().count(path) == 1 else 0.0
    store.put(file, "weights")
    assert len(server.list_sent()) >= 2
    assert store.holds("weights", file, digest)


@pytest.mark.parametrize(
    ("status", "words", "attempts"),
    [
        pytest.param(503, "503 Slow Down", 1, id="slow down"),  # s3fs asks again
        pytest.param(500, "500 Internal Server Error", 2, id="error"),  # botocore does
    ],
)
def test_a_store_that_keeps_refusing_is_one_short_message(
    bucket: str,
    server: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    words: str,
    attempts: int,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(attempts))
    S3FileSystem.clear_instance_cache()
    file, _ = make_file(tmp_path / "weights", 1000)
    server.refusal = status
    server.refuses = lambda number, method, path: True
    with pytest.raises(ExportError) as refused:
        Store(bucket).put(file, "weights")
    assert str(refused.value) == (
        f"The store refused, also when it was asked again: {bucket}/weights: {words}. Try again later: what has "
        "arrived is not sent twice."
    )
    assert len(server.list_sent()) >= 2


def test_a_store_that_cannot_be_reached_is_one_short_message(
    bucket: str, network: UnreliableNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    network.sent = lambda number: 0
    file, _ = make_file(tmp_path / "weights", 1000)
    with pytest.raises(ExportError) as refused:
        Store(bucket).put(file, "weights")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"The store refused, also when it was asked again: {bucket}/weights: ")


@pytest.mark.parametrize("spoiled", ["/.exporter-", "/model.h5"], ids=["sent", "copied"])
def test_other_bytes_than_were_sent_cost_nothing(bucket: str, model: Any, server: ObjectStore, spoiled: str) -> None:
    run(f"{bucket}/model.h5")
    before = Store(bucket).read("model.h5")
    server.spoils = lambda method, path: method == "PUT" and "former" not in path and spoiled in path
    with pytest.raises(ExportError) as refused:
        run(f"{bucket}/model.h5")
    assert "does not have the bytes that were sent (sha256 " in str(refused.value)
    server.forget()
    assert Store(bucket).read("model.h5") == before
    assert load_model(f"{bucket}/model.h5").name == "tiny"


def test_a_large_object_is_sent_in_parts_and_held_against_their_digests(
    bucket: str, server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.storage.remote.store._PART_BYTES", 5 << 20)
    file, digest = make_file(tmp_path / "weights", 11 << 20)
    store = Store(bucket)
    store.put(file, "weights")
    assert len(server.list_sent()) == 3
    store.copy("weights", "copy")
    with monkeypatch.context() as patch:
        patch.setattr(type(store._files), "open", None)  # nothing is read back
        assert store.holds("weights", file, digest)
        assert store.holds("copy", file, digest)
    file.write_bytes(file.read_bytes()[::-1])
    assert not store.holds("weights", file, hashlib.sha256(file.read_bytes()).hexdigest())


def test_parts_of_an_upload_that_fails_are_not_left(
    bucket: str, server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.storage.remote.store._PART_BYTES", 5 << 20)
    file, _ = make_file(tmp_path / "weights", 11 << 20)
    server.refusal = 403
    server.refuses = lambda number, method, path: len(server.list_sent()) == 2
    store = Store(bucket)
    with pytest.raises(ExportError, match="The store does not allow it"):
        store.put(file, "weights")
    server.forget()
    assert store._files.list_multipart_uploads("models") == []
    assert store.list_objects() == {}


def test_an_interrupted_upload_goes_on_with_what_has_arrived(bucket: str, model: Any, server: ObjectStore) -> None:
    run(f"{bucket}/model.h5")
    before = Store(bucket).read("model.h5")
    server.refuses = lambda number, method, path: method == "PUT" and path.endswith("saved_model.pb")
    server.refusal = 403
    with pytest.raises(ExportError) as refused:
        run(f"{bucket}/model")
    assert str(refused.value).startswith(f"The store does not allow it: {bucket}/.exporter-")
    assert str(refused.value).endswith("Use credentials that may list, read, write and delete there.")
    arrived = [name for name in list_objects(bucket) if name.startswith(".exporter-")]
    assert not Store(bucket).exists("model")
    server.forget()
    run(f"{bucket}/model")
    sent = [path.partition(f"{bucket.removeprefix('s3:/')}/")[2] for path in server.list_sent()]
    assert arrived
    assert not set(sent) & set(arrived)
    assert not [name for name in list_objects(bucket) if name.startswith(".exporter-")]
    assert Store(bucket).read("model.h5") == before


def test_other_bytes_than_were_sent_are_noticed(bucket: str, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"as sent")
    store = Store(bucket)
    digest = "c9b1b2a6d5c5d9ff9e4fcb1e4f6fdb5a2a0c93d5e6a8c8a1d0b3ffdd2b1a0000"
    store.write("weights", b"as read")
    assert not store.holds("weights", file, digest)
    store.put(file, "weights")
    assert store.holds("weights", file, digest)  # by the ETag
    store.write("short", b"as")
    assert not store.holds("short", file, digest)
    assert not store.holds("missing", file, digest)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(
            "s4://bucket/model",
            "received s4://bucket/model; there is no store of the protocol 's4'; use s3, gs, az, file or memory",
            id="protocol",
        ),
        pytest.param(
            "https://host/model",
            "received https://host/model; there is no store of the protocol 'https'; use s3, gs, az, file or memory",
            id="one that fsspec knows",
        ),
        pytest.param(
            "S3://bucket/model",
            "received S3://bucket/model; there is no store of the protocol 'S3'; use s3, gs, az, file or memory",
            id="capitals",
        ),
        pytest.param(
            "simplecache::s3://bucket/model",
            "received simplecache::s3://bucket/model, a chain of URLs; expected a single one, of s3, gs, az, file or "
            "memory",
            id="chain",
        ),
        pytest.param(
            "s3://AKIA:sec/ret@bucket/model",
            "received s3://…@bucket/model, which holds credentials, and a recipe is kept and shown; take them out. "
            "They are read from the environment or the files of the store's own tools, such as AWS_PROFILE",
            id="secret",
        ),
        pytest.param(
            "s3://", "received s3://; expected a bucket and a path, such as s3://bucket/models/digits", id="empty"
        ),
        pytest.param(
            "az://bucket/model",
            "received az://bucket/model, which needs adlfs, which is not installed: pip install 'keras-exporter[az]'",
            id="extra",
        ),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, message: str) -> None:
    assert explain_url(url) == message


@pytest.mark.parametrize("place", ["s3://nowhere", "s3://nowhere/dir"])
def test_a_missing_bucket_is_named_before_the_model_is_built(server: ObjectStore, place: str) -> None:
    with pytest.raises(ExportError) as refused:
        run(f"{place}/model", {"_target_": "never.called"})
    assert str(refused.value).startswith(f"{place} was not found in its store (")
    assert str(refused.value).endswith("). Create the bucket, or correct the URL.")


def test_nothing_at_a_url_is_named(bucket: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        load_model(f"{bucket}/model")
    assert str(refused.value) == f"There is nothing at {bucket}/model. Give the URL of an artifact that was exported."


def test_threads_that_fetch_at_the_same_time_share_one_copy(bucket: str) -> None:
    Store(bucket).write("data", bytes(1 << 20))
    with ThreadPoolExecutor(8) as executor:
        paths = set(executor.map(fetch, [f"{bucket}/data"] * 8))
    assert [path.stat().st_size for path in paths] == [1 << 20]


def test_a_url_is_a_source_too(bucket: str, model: Any, tmp_path: Path) -> None:
    run(f"{bucket}/model.keras")
    source = {"_target_": "exporter.sources.file", "filepath": f"{bucket}/model.keras"}
    receipt = run(str(tmp_path / "model"), source, save_format="tf")
    assert [(each.key, each.path) for each in receipt.inputs] == [("model.filepath", f"{bucket}/model.keras")]
    assert load_model(receipt.filepath).name == "tiny"


@pytest.mark.parametrize("root", ["memory://models", "file://{}"], ids=["memory", "file"])
def test_other_stores_take_an_artifact_too(root: str, model: Any, tmp_path: Path) -> None:
    url = f"{root.format(tmp_path)}/tiny"
    run(url)
    run(url)
    assert load_model(url).name == "tiny"
