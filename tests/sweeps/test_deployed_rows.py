"""Rows of deployed artifacts, and of pairs that a format does not have, in everything that shows a sweep."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sample_receipt import RECEIPT

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Deployment, Machine, Score
from exporter.cli.command_line import read_command_line
from exporter.cli.composing import own_hydra
from exporter.config import Objective
from exporter.errors import Fault, RefusedExportError, UsageError
from exporter.sweeps.records.plans import Plan
from exporter.sweeps.records.results import JobResult, Outcome, describe_failure, find_objective, write_row
from exporter.sweeps.showing import table
from exporter.sweeps.showing.charts import draw_charts
from exporter.sweeps.showing.files import write_table
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import Sweep, collect
from exporter.sweeps.tables.comparing import describe_beside, describe_measuring, find_beside, find_front

from .test_report import make_plan_of, make_row

MACHINE = replace(RECEIPT.machine, int8_instructions=("avx512_vnni", "amx_int8"))


def make_score(artifact: float, metric: str = "accuracy", samples: int = 360, is_up: bool | None = True) -> Score:
    """Makes a score beside a model that has 0.9."""
    loss = 0.9 - artifact if is_up else artifact - 0.9
    return Score("serving_default", "probabilities", metric, 0.9, artifact, samples, loss, is_up)


def make_deployed(plan: Plan, number: int, scores: Sequence[Score] = (), **fields: Any) -> JobResult:
    """Makes the row of a LiteRT file."""
    cell = replace(plan.cells[number], format="litert", overrides=("save_format=litert", f"seed={number}"))
    deployment = Deployment(
        quantize="int8", rounding=1.25, scores=tuple(scores), agreement=0.975, data="the digits", calibration="others"
    )
    row = make_row(cell, **{"deployment": deployment, "machine": MACHINE, **fields})
    assert row.receipt is not None
    measurements = row.measurements and replace(row.measurements, reader="LiteRt, serving_default, 1 thread")
    return replace(row, receipt=replace(row.receipt, measurements=measurements))


def make_sweep(rows: Sequence[JobResult], plan: Plan) -> Sweep:
    """Makes a sweep that shows its rows by format and number."""
    return Sweep(plan, tuple(rows), tuple(f"save_format={row.format} seed={row.number}" for row in rows))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan_of(tmp_path, 4)


def print_in(sweep: Sweep, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prints the table on a terminal of some columns."""
    printed = StringIO()
    monkeypatch.setattr(table, "make_console", lambda stream: Console(file=stream, width=columns, highlight=False))
    print_table(sweep, "report.html", printed)
    return printed.getvalue().splitlines()


def read_titles(sweep: Sweep) -> list[str]:
    return [column.title for column in sweep.columns if column.is_shown]


def test_a_sweep_without_deployed_artifacts_has_the_columns_that_it_had(plan: Plan) -> None:
    sweep = make_sweep([make_row(cell) for cell in plan.cells], plan)
    assert read_titles(sweep) == ["bytes", "save", "load", "first", "median", "p99", "memory", "outputs"]
    assert describe_measuring(sweep.rows) == []


def test_what_a_deployed_artifact_keeps_of_its_model_has_columns(plan: Plan) -> None:
    rows = [make_row(plan.cells[0]), make_deployed(plan, 1, [make_score(0.88)])]
    sweep = make_sweep(rows, plan)
    titles = read_titles(sweep)
    assert titles[:6] == ["quantize", "bytes", "accuracy\nn=360", "change", "agreement", "x rounding"]
    assert titles[6] == "save or\nconvert"
    assert [column.write(rows[1]) for column in sweep.columns][:6] == [
        *("int8", "29.0 kB", "0.8800", "-0.0200", "97.5%", "1.2")
    ]
    assert [column.write(rows[0]) for column in sweep.columns][:6] == ["", "20.0 kB", "", "", "", ""]
    assert "convert" in read_titles(make_sweep(rows[1:], plan))


def test_the_quantisation_stands_once(plan: Plan) -> None:
    rows = [make_deployed(plan, number, overrides=(f"quantize=int{number}",)) for number in (0, 1)]
    sweep = Sweep(plan, tuple(rows), ("quantize=int0", "quantize=int1"))
    assert "quantize" not in read_titles(sweep)
    assert [column.title for column in sweep.parameters] == ["quantize"]


def test_the_worst_scored_output_is_shown_by_its_metric(plan: Plan) -> None:
    row = make_deployed(plan, 0, [make_score(0.91), make_score(0.7, samples=12), make_score(0.89)])
    assert row.score == make_score(0.7, samples=12)
    titles = read_titles(make_sweep([row, make_deployed(plan, 1, [make_score(0.8)])], plan))
    assert titles[2:4] == ["accuracy", "n"]
    other = make_deployed(plan, 1, [make_score(1.5, "mean_absolute_error", is_up=False)])
    sweep = make_sweep([row, other], plan)
    assert read_titles(sweep)[2:5] == ["metric", "score", "n"]
    assert "score" not in sweep.find_winners()


def test_more_is_better_of_an_accuracy_and_less_of_an_error(plan: Plan) -> None:
    scores = [0.7, 0.8, math.nan]
    up = make_sweep([make_deployed(plan, number, [make_score(each)]) for number, each in enumerate(scores)], plan)
    assert up.find_winners()["score"] == [1]
    errors = [make_score(each, "mean_absolute_error", is_up=False) for each in scores]
    down = make_sweep([make_deployed(plan, number, [each]) for number, each in enumerate(errors)], plan)
    assert down.find_winners()["score"] == [0]
    unknown = [make_score(each, "mine", is_up=None) for each in scores]
    none = make_sweep([make_deployed(plan, number, [each]) for number, each in enumerate(unknown)], plan)
    assert "score" not in none.find_winners()


def test_the_score_is_the_same_on_the_disk_whatever_a_metric_counts(plan: Plan) -> None:
    row = make_deployed(plan, 0, [Score("serving_default", "y", "r2_score", -3.5, math.inf, 7, -math.inf)])
    assert JobResult.from_json(row.to_json()) == row


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_narrow_terminal_has_whole_columns_and_names_the_others(
    columns: int, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep([make_deployed(plan, number, [make_score(0.8 + number / 100)]) for number in range(4)], plan)
    lines = print_in(sweep, columns, monkeypatch)
    shown = lines[3:9]
    assert max(map(len, shown)) <= columns
    assert not [line for line in shown if "…" in line]
    assert "accuracy" in shown[0]
    assert "median" in shown[1]
    [told] = [line for line in lines if line.startswith("table")]
    missing = [title.replace("\n", " ") for title in read_titles(sweep) if title.split("\n")[0] not in "".join(shown)]
    assert told.endswith(f"(with {', '.join(missing)}, for which there is no room above)" if missing else "sweep.csv")
    assert bool(missing) is (columns < 200)


def test_the_files_have_the_same_names_in_every_sweep(plan: Plan, tmp_path: Path) -> None:
    rows = [make_row(plan.cells[0]), make_deployed(plan, 1, [make_score(0.88)])]
    write_table(make_sweep(rows, plan))
    plain, deployed = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert plain.keys() == deployed.keys()
    assert (plain["deployment"], plain["quantize"]) == (None, None)
    assert (deployed["deployment"]["scores"][0]["artifact"], deployed["quantize"]) == (0.88, "int8")
    assert deployed["machine"]["int8_instructions"] == ["avx512_vnni", "amx_int8"]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        plain, deployed = csv.DictReader(file)
    names = ("quantize", "metric", "score", "score_samples", "agreement", "rounding", "int8_instructions")
    assert [deployed[name] for name in names] == [
        *("int8", "accuracy", "0.88", "360", "0.975", "1.25", "avx512_vnni amx_int8")
    ]
    assert float(deployed["score_change"]) == pytest.approx(-0.02)
    assert [plain[name] for name in names] == [""] * 7


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        pytest.param(Objective.ACCURACY, 0.25, id="accuracy"),
        pytest.param(Objective.AGREEMENT, 0.025, id="agreement"),
    ],
)
def test_the_best_of_an_objective_is_the_smallest(objective: Objective, expected: float, plan: Plan) -> None:
    assert find_objective(make_deployed(plan, 0, [make_score(0.75)]), objective) == pytest.approx(expected)
    assert find_objective(make_row(plan.cells[0]), objective) == math.inf


def test_an_error_is_an_objective_as_it_is(plan: Plan) -> None:
    scores = [make_score(1.5, "mean_absolute_error", is_up=False)]
    assert find_objective(make_deployed(plan, 0, scores), Objective.ACCURACY) == 1.5


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 2, st.integers(0, 4) | st.none()), min_size=1, max_size=8).map(
        lambda points: [tuple(None if each is None else float(each) for each in point) for point in points]
    )
)
def test_nothing_on_the_front_is_beaten_and_all_else_is(points: list[tuple[float | None, ...]]) -> None:
    def beats(one: tuple[float | None, ...], other: tuple[float | None, ...]) -> bool:
        known = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
        return all(a <= b for a, b in known) and any(a < b for a, b in known)

    front = find_front(points)
    for index, point in enumerate(points):
        is_beaten = any(beats(other, point) for other in points)
        is_repeated = point in points[:index]
        assert (index in front) is (not is_beaten and not is_repeated)


def make_front(plan: Plan) -> Sweep:
    """Of four rows the second is smaller, faster and no worse than the first; the third is worse, the fourth failed."""
    rows = [
        make_deployed(plan, number, [make_score(score)], total_bytes=size)
        for number, (score, size) in enumerate([(0.8, 300), (0.8, 200), (0.7, 100)])
    ]
    failed = make_row(plan.cells[3], outcome=Outcome.FAILED, exit_code=3, error="it failed")
    return make_sweep([*rows, failed], plan)


def test_the_front_is_marked_everywhere(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make_front(plan)
    assert sweep.front == [2, 1]
    lines = print_in(sweep, 160, monkeypatch)
    assert [line.split()[:2] for line in lines[5:9]] == [
        ["0", "litert"],
        *(["1", "◆"], ["2", "◆"], ["3", "tf"]),
    ]
    assert "◆                     no other job is at least as good in bytes, median latency and accuracy" in lines
    write_table(sweep)
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert written["front"] == [2, 1]
    assert [row["on_front"] for row in written["rows"]] == [False, True, True, False]
    page = write_report(sweep).read_text()
    assert page.count('class="front"') == 2
    [(words, svg)] = [(words, svg) for title, words, svg in draw_charts(sweep) if title == "Latency against size"]
    assert words == (
        "No job is at once smaller, faster and of better score than one on the dashed line: 2 save_format=litert "
        "seed=2; 1 save_format=litert seed=1. Beside each number stands its accuracy."
    )
    assert "1 · 0.8000" in svg


def test_a_single_row_is_on_no_front(plan: Plan) -> None:
    assert make_sweep([make_deployed(plan, 0)], plan).front == []


def at(second: int) -> str:
    return f"2026-01-02T03:04:{second:02}.000+00:00"


@pytest.mark.parametrize(
    ("spans", "beside"),
    [
        pytest.param([("a", 0, 5), ("a", 5, 9)], {}, id="one after the other"),
        pytest.param([("a", 0, 6), ("a", 5, 9)], {0: (1,), 1: (0,)}, id="at the same time"),
        pytest.param([("a", 0, 6), ("b", 5, 9)], {}, id="on two machines"),
        pytest.param([("a", 0, 9), ("a", 1, 2), ("a", 3, 4)], {0: (1, 2), 1: (0,), 2: (0,)}, id="during a longer one"),
    ],
)
def test_jobs_that_ran_at_the_same_time(
    spans: Sequence[tuple[str, int, int]], beside: Mapping[int, tuple[int, ...]], plan: Plan
) -> None:
    rows = [
        make_row(cell, host=host, started=at(begin), finished=at(end))
        for cell, (host, begin, end) in zip(plan.cells, spans, strict=False)
    ]
    assert find_beside(rows) == beside


def test_a_job_that_failed_was_beside_others_too(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = make_row(plan.cells[1], outcome=Outcome.FAILED, exit_code=3, error="no", started=at(1), finished=at(2))
    measured = make_row(plan.cells[0], started=at(0), finished=at(9))
    sweep = make_sweep([measured, replace(failed, host="here")], plan)
    told = "job 0: measured while other jobs ran on the same machine; alone they may be faster"
    assert describe_beside(sweep.beside) == told
    assert f"!             {told}" in print_in(sweep, 120, monkeypatch)
    page = write_report(sweep).read_text()
    assert told in page
    assert "meanwhile job 1 ran on the same machine" in page


def test_a_latency_is_told_with_threads_and_the_processors_instructions(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = replace(MACHINE, int8_instructions=None)
    rows = [make_deployed(plan, 0), make_deployed(plan, 1), make_deployed(plan, 2, machine=former)]
    sweep = make_sweep([*rows, make_row(plan.cells[3])], plan)
    reader = "LiteRt, serving_default, 1 thread, batch of 1, on a processor"
    assert describe_measuring(sweep.rows) == [
        (f"{reader} (int8: avx512_vnni, amx_int8)", [0, 1]),
        (f"{reader} (int8: not known)", [2]),
        ("exporter.load_model, batch of 1, on a processor (int8: not known)", [3]),
    ]
    assert f"measured      {reader} (int8: avx512_vnni, amx_int8): jobs 0, 1" in print_in(sweep, 120, monkeypatch)
    assert f"measured: {reader} (int8: avx512_vnni, amx_int8): jobs 0, 1" in write_report(sweep).read_text()


def test_a_receipt_of_a_version_without_instructions_is_read() -> None:
    fields = json.loads(RECEIPT.to_json())
    del fields["machine"]["int8_instructions"]
    assert Receipt.from_json(json.dumps(fields)).machine == Machine("a processor", 2, 2**33, "Linux 6", ("a GPU",))


REFUSAL = UsageError([Fault("quantize", "received int8, which save_format=tf does not have", is_refusal=True)])
ERRORS = {
    "a pair that does not exist": (REFUSAL, Outcome.REFUSED, 2),
    "what a converter refuses": (RefusedExportError("the model cannot be converted"), Outcome.REFUSED, 3),
    "a mistake": (UsageError([Fault("seed", "received -1")]), Outcome.FAILED, 2),
    "a mistake and a pair": (UsageError([*REFUSAL.faults, Fault("seed", "received -1")]), Outcome.FAILED, 2),
}


@pytest.mark.parametrize(("error", "outcome", "code"), ERRORS.values(), ids=ERRORS)
def test_a_refusal_is_known_by_its_kind(error: Exception, outcome: Outcome, code: int, plan: Plan) -> None:
    row = describe_failure(plan.cells[0], error, at(0))
    assert (row.outcome, row.exit_code, row.error) == (outcome, code, str(error).split("\n")[0])


def test_refused_rows_are_told_with_their_reason_and_do_not_count(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_row(plan.cells[0]), describe_failure(plan.cells[1], REFUSAL, at(0))]
    for cell, row in zip(plan.cells, rows, strict=False):
        write_row(row, Path(cell.directory))
    sweep = collect(replace(plan, cells=plan.cells[:2]))
    assert sweep.exit_code == 0
    lines = print_in(sweep, 120, monkeypatch)
    assert lines[1] == "2 jobs: 1 proven, 1 refused"
    assert next(line for line in lines if "\N{EN DASH} refused" in line).startswith("1")
    assert "\N{EN DASH} 1  quantize: received int8, which save_format=tf does not have" in lines
    page = write_report(sweep).read_text()
    assert "\N{EN DASH} 1 refused" in page
    assert '<p class="refused">quantize: received int8, which save_format=tf does not have</p>' in page


def test_a_sweep_of_refused_pairs_says_so(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [describe_failure(cell, RefusedExportError("the converter cannot"), at(0)) for cell in plan.cells]
    sweep = make_sweep(rows, plan)
    assert sweep.exit_code == 2
    assert print_in(sweep, 120, monkeypatch)[1:3] == [
        "4 jobs: 4 refused",
        "nothing was exported: each job asks for what its format does not have",
    ]
    assert "Nothing was exported: each job asks for what its format does not have." in write_report(sweep).read_text()


def check(*arguments: str) -> Plan | None:
    """Checks a command line, and runs nothing."""
    with own_hydra():
        return read_command_line(arguments).plan


def find_faults(*arguments: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        check(*arguments)
    return [f"{fault.path}: {fault.message}" for fault in caught.value.faults]


TF_INT8 = (
    "quantize: received int8, which save_format=tf does not have; a format that holds the model keeps its numbers as "
    "they are. Or set save_format="
)


def test_a_pair_that_does_not_exist_stops_no_sweep() -> None:
    plan = check("-m", "save_format=tf,litert", "quantize=null,int8")
    assert plan is not None
    assert [cell.format for cell in plan.cells] == ["tf", "tf", "litert", "litert"]


def test_two_refused_jobs_may_name_one_path() -> None:
    path = 'filepath="out/${save_format}${exporter.suffix:${save_format}}"'
    assert check("-m", "save_format=tf,h5", "quantize=null,int8", path) is not None


def test_a_single_run_of_a_pair_that_does_not_exist_is_a_fault() -> None:
    [fault] = find_faults("save_format=tf", "quantize=int8")
    assert fault.startswith(TF_INT8)


def test_a_sweep_of_which_no_job_is_left_is_a_fault() -> None:
    first, *pairs = find_faults("-m", "save_format=tf,keras", "quantize=int8")
    assert first == "sweep: no job of the sweep is left: each asks for what its format does not have"
    assert pairs[0].startswith(TF_INT8)
    assert len(pairs) == 2


def test_another_fault_of_a_refused_job_is_a_fault() -> None:
    faults = find_faults("-m", "save_format=tf,litert", "quantize=int8", "seed=-1")
    assert "seed: received -1; expected an integer from 0 to 4294967295" in faults


OPTUNA = ("-m", "hydra/sweeper=optuna", "save_format=litert", "model.batch_size=choice(32,64)")
JUDGED = {
    "no proof": (
        ("save_format=litert", "objective=accuracy", "verify=reload"),
        "objective: received accuracy, which is not known without a proof; set verify=full",
    ),
    "a format that holds the model": (
        ("save_format=h5", "objective=agreement"),
        "objective: received agreement, which is known of an artifact that may compute otherwise than the model; "
        "set save_format=litert",
    ),
    "the largest": (
        (*OPTUNA, "objective=accuracy", "hydra.sweeper.direction=maximize"),
        "hydra.sweeper.direction: received maximize; of every objective the smallest is the best, also of accuracy; "
        "set minimize",
    ),
}


@pytest.mark.parametrize(("arguments", "fault"), JUDGED.values(), ids=JUDGED)
def test_an_objective_that_cannot_be_searched_for_is_a_fault(arguments: Sequence[str], fault: str) -> None:
    [found] = find_faults(*arguments)
    assert found.startswith(fault)


def test_the_remedy_for_a_direction_works() -> None:
    assert check(*OPTUNA, "objective=accuracy", "hydra.sweeper.direction=minimize") is not None
