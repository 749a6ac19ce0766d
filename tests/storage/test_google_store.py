"""Artifacts in Google Cloud Storage: the real gcsfs against an emulator of its API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from google_store import serve_google
from stored_models import make_model, run

from exporter import load_model
from exporter.cli.commands import run_command
from exporter.config import LayoutConfig, LayoutKind
from exporter.errors import ExportError, TargetExistsError
from exporter.storage.remote import Store
from exporter.storage.remote.leases import lease_free

pytestmark = [
    pytest.mark.xdist_group("stores"),
    # gcsfs sends what is above 5 MiB as bytes, and aiohttp would rather have a file.
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]

BUCKET = "gs://my-bucket"


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with serve_google("my-bucket") as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", host)
        patch.setenv("NO_GCE_CHECK", "true")  # this is no machine of Google's, and to look takes time
        yield


@pytest.mark.parametrize("name", ["model", "model.h5", "model.keras"])
def test_an_artifact_comes_back_and_is_replaced(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"{BUCKET}/models/{name}"
    run(url)
    with pytest.raises(TargetExistsError):
        run(url, overwrite=False)
    receipt = run(url)
    batch = np.ones((2, 4), "float32")
    assert np.array_equal(load_model(url).predict(batch, verbose=0), make_model().predict(batch, verbose=0))
    assert [each for each in Store(f"{BUCKET}/models").list_objects() if each.startswith(".")] == []
    capfd.readouterr()
    assert run_command(["verify", url, "--files-only"]) == 0
    assert run_command(["inspect", url, "--json"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"✓ {receipt.filepath}: ")
    assert "exporter-fetched" not in out
    assert "gcsfs" not in err
    assert run_command(["diff", url, url]) == 0


def test_a_served_model_has_versions_and_is_a_source(tmp_path: Path) -> None:
    layout = LayoutConfig(kind=LayoutKind.TF_SERVING, warmup=False)
    receipts = [run(f"{BUCKET}/served", layout=layout) for _ in range(2)]
    assert [receipt.filepath for receipt in receipts] == [f"{BUCKET}/served/{number}" for number in (1, 2)]
    source = {"_target_": "exporter.sources.file", "filepath": f"{BUCKET}/served/2"}
    receipt = run(str(tmp_path / "model.h5"), source, save_format="h5")
    assert [(each.key, each.path) for each in receipt.inputs] == [("model.filepath", f"{BUCKET}/served/2")]
    assert load_model(receipt.filepath).name == "tiny"


def test_one_claims_a_place() -> None:
    store = Store(f"{BUCKET}/claims")
    with ThreadPoolExecutor(4) as executor:
        claims = [claim for claim in executor.map(lambda _: lease_free(store, "1"), range(4)) if claim]
    assert len(claims) == 1
    claims[0].release()
    assert store.list_objects() == {}


def test_an_object_is_held_against_its_digest_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"\r\n\0" * (2 << 20))  # sent in a session of its own, as all above 5 MiB
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    store = Store(f"{BUCKET}/digests")
    store.put(file, "weights")
    store.copy("weights", "copy")
    monkeypatch.setattr(type(store._files), "open", None)
    assert store.holds("weights", file, digest)
    assert store.holds("copy", file, digest)
    info = store._files.info
    # Of an object that was put together from others, Google keeps no MD5.
    monkeypatch.setattr(type(store._files), "info", lambda _, path: {**info(path), "md5Hash": None})
    assert store.holds("weights", file, digest)


@pytest.mark.parametrize("place", ["gs://nowhere", "gs://nowhere/dir"])
def test_a_bucket_that_is_not_there_is_named(place: str) -> None:
    with pytest.raises(ExportError) as refused:
        run(f"{place}/model", {"_target_": "never.called"})
    assert str(refused.value) == (
        f"{place} was not found in its store (b/nowhere/o). Create the bucket, or correct the URL."
    )
