"""Machines that share nothing but a store: each runs some jobs, one is killed, and any of them completes the table."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from object_store import serve_objects

from exporter.artifacts.receipt import Receipt
from exporter.storage.remote import Store
from sweeps.conftest import TINY, Run, read_table

pytestmark = pytest.mark.xdist_group("stores")

STORE = "s3://sweeps"
FILEPATH = f'filepath="{STORE}/out/${{model.width}}"'


def test_a_table_assembles_itself_from_machines_that_share_only_a_store(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("-m", *TINY, "verify=none", "measure=never", f"results_url={STORE}/first", FILEPATH)
    machines = [tmp_path / name for name in ("a", "b", "c")]
    for machine in machines:
        machine.mkdir()
    with serve_objects() as server:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing-secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", server.endpoint),
        ):
            monkeypatch.setenv(name, value)
        import fsspec

        # A file system of its own: another test may have one for a server of its own.
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("sweeps")
        fsspec.filesystem("s3").clear_instance_cache()
        store = Store(f"{STORE}/first")

        # The first machine is killed after its first job, in the middle of the second.
        killed = run(machines[0], *words, "+model.width=4,777")
        assert killed.returncode == -signal.SIGKILL
        assert [name.rpartition("/")[2] for name in store.list_objects()].count("row.json") == 1
        for machine in machines[1:]:
            (machine / "mended").touch()
        done = run(machines[1], *words, "+model.width=6")
        assert (done.returncode, done.stderr) == (0, done.stderr)
        rows = [name for name in store.list_objects() if name.endswith("/row.json")]
        assert len(rows) == 2

        before = {name: store.read(name) for name in rows}
        done = run(machines[2], *words, "+model.width=4,777,6", "resume=true")
        assert done.returncode == 0, done.stderr
        table = read_table(machines[2])
        assert [(row["outcome"], row["number"], row["overrides"][-1]) for row in table["rows"]] == [
            ("written", 0, "+model.width=4"),
            ("written", 1, "+model.width=777"),
            ("written", 2, "+model.width=6"),
        ]
        assert {name: store.read(name) for name in rows} == before  # what was finished was not run again
        sent = store.read("sweep.json")
        assert sent is not None
        assert json.loads(sent)["rows"] == table["rows"]
        assert {"sweep.csv", "sweep.json", "plan.json", "report.html"} <= set(store.list_objects())
        for row in table["rows"]:
            receipt = store.read(f"jobs/{row['recipe_hash']}/receipt.json")
            assert receipt is not None
            assert Receipt.from_json(receipt.decode()).filepath == row["filepath"]
