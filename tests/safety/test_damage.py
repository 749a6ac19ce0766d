"""Flipped bits and cut files: a model that was damaged is the same, bit for bit, or it is not loaded."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ArtifactError
from exporter.saving.layout.checksums import Checksums
from exporter.saving.layout.documents import parse_json, parse_recipe
from exporter.saving.layout.tensor_bundle import read_index
from exporter.saving.rebuilding.record import StateRecord
from exporter.saving.safety.graphs.operations import check_graph

from .damage_worker import choose_cases, damage

pytestmark = pytest.mark.xdist_group("safety")

CASES = 16


@pytest.mark.parametrize("save_format", ["tf", "h5", "keras"])
def test_no_damage_gives_a_wrong_number(save_format: str, originals: Mapping[str, Path], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    arguments = [str(originals[save_format]), str(tmp_path), "0", str(CASES)]

    done = subprocess.run(
        [sys.executable, "-m", "safety.damage_worker", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )

    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    outcomes = [line["outcome"] for line in lines if "outcome" in line]
    assert [outcome for outcome in outcomes if not outcome.startswith(("same", "ArtifactError: "))] == []
    assert (done.returncode, len(outcomes)) == (0, CASES), f"{lines[-1:]}\n{done.stderr[-2000:]}"
    assert sum(outcome.startswith("ArtifactError") for outcome in outcomes) > CASES // 8


@pytest.mark.parametrize("position", [0.2, 0.5, 0.9])
def test_a_damaged_tensor_is_named(position: float, originals: Mapping[str, Path], tmp_path: Path) -> None:
    import h5py

    import exporter

    path = tmp_path / "model.h5"
    path.write_bytes(originals["h5"].read_bytes())
    name = "model_weights/hidden/small/hidden/kernel"
    with h5py.File(path, "r") as file:
        offset, size = file[name].id.get_offset(), file[name].id.get_storage_size()
    damage(path, "flip", offset + int(size * position), 4)

    with pytest.raises(ArtifactError) as caught:
        exporter.load_model(path)

    assert str(caught.value) == f"{path} is damaged: the tensor {name!r} does not match its checksum."


def test_the_cases_reach_every_large_file(originals: Mapping[str, Path]) -> None:
    reached = {name.name for name, *_ in choose_cases(originals["tf"], CASES)}
    assert {"saved_model.pb", "variables.data-00000-of-00001"} <= reached


# The readers that we wrote, and bytes that nobody chose by hand.

BOUNDED = settings(max_examples=150, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutate(content: bytes, changes: list[tuple[float, int]], end: float) -> bytes:
    """Overwrites some bytes of a file, and cuts it."""
    mutated = bytearray(content)
    for place, value in changes:
        mutated[int(place * (len(mutated) - 1))] = value
    return bytes(mutated[: int(len(mutated) * end) + 1])


changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)
ends = st.one_of(st.just(1.0), st.floats(0, 1))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        pytest.param("variables/variables.index", read_index, id="checkpoint index"),
        pytest.param("saved_model.pb", check_graph, id="graph"),
        pytest.param(
            "assets.extra/exporter/state.json", lambda path: StateRecord.from_json(path.read_bytes()), id="record"
        ),
        pytest.param(
            "assets.extra/exporter/checksums.json",
            lambda path: Checksums.from_json(path.read_bytes(), path),
            id="checksums",
        ),
    ],
)
@BOUNDED
@given(changes=changes, end=ends, noise=st.one_of(st.none(), st.binary(max_size=200)))
def test_a_reader_of_ours_reads_or_refuses(
    name: str,
    read: Any,
    changes: list[tuple[float, int]],
    end: float,
    noise: bytes | None,
    originals: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    path = tmp_path / "mutated"
    content = (originals["tf"] / name).read_bytes()
    path.write_bytes(mutate(content, changes, end) if noise is None else noise)
    with contextlib.suppress(ArtifactError):
        read(path)


@BOUNDED
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_a_text_of_ours_is_parsed_or_refused(text: bytes) -> None:
    for parse in (parse_json, parse_recipe):
        with contextlib.suppress(ArtifactError):
            parse(text, "the text")
