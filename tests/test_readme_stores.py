"""The commands of the page about stores, with their words, against servers that the environment names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import fsspec
import pytest
from google_store import serve_google
from object_store import serve_objects
from s3fs import S3FileSystem
from stored_models import run

from exporter import load_model
from exporter.artifacts.records import Status
from exporter.cli.composing import compose
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession

PAGE = (Path(__file__).parent.parent / "exporter/data/help/stores.md").read_text(encoding="utf-8")
[BLOCK] = [block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "s3://my-bucket" in block]
COMMANDS = [shlex.split(line) for line in BLOCK.strip().splitlines()]


@pytest.mark.xdist_group("stores")
def test_every_command_for_a_store_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serve_objects() as amazon, serve_google("my-bucket") as google:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": amazon.endpoint,
            "STORAGE_EMULATOR_HOST": google,
            "NO_GCE_CHECK": "true",
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("my-bucket")
        run("s3://my-bucket/models/old.h5")
        with ExportSession() as session:  # one process proves all: it is TensorFlow's start that takes time
            assert {program for program, *_ in COMMANDS} == {"exporter"}
            receipts = [run_export(compose(overrides=words), session=session) for _, *words in COMMANDS]
        assert [receipt.filepath for receipt in receipts] == [
            "s3://my-bucket/models/digits",
            "gs://my-bucket/served/digits/1",
            str(tmp_path / "exports" / "old"),
        ]
        assert {receipt.status for receipt in receipts} == {Status.PROVEN}
        assert [load_model(receipt.filepath).name for receipt in receipts] == ["digits", "digits", "tiny"]
        S3FileSystem.clear_instance_cache()
