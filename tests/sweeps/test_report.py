"""The report in a real browser, and the table and the charts from rows that are made by hand."""

import csv
import json
import math
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser
from sample_receipt import RECEIPT
from selenium import webdriver
from selenium.webdriver.common.by import By

from exporter.artifacts.receipt import Receipt
from exporter.artifacts.records import Check, CheckKind, Measurements, Phase, Status
from exporter.config import Objective, OnError
from exporter.errors import MissingDependencyError
from exporter.saving.contents import ContentItem, Omission
from exporter.sweeps.records.plans import Plan, make_plan
from exporter.sweeps.records.results import JobResult, Outcome, SweepJob, describe_success, find_objective, write_row
from exporter.sweeps.showing.charts import draw_charts
from exporter.sweeps.showing.files import write_table
from exporter.sweeps.showing.report import write_report
from exporter.sweeps.showing.table import print_table
from exporter.sweeps.tables.collecting import Sweep, collect
from exporter.sweeps.tables.comparing import find_front
from exporter.sweeps.tables.words import format_seconds, shorten_overrides

FORMATS = ("tf", "h5", "keras")


def make_plan_of(directory: Path, count: int) -> Plan:
    return make_plan(
        recipe="digits_formats",
        command=("-m", "seed=0,1"),
        job_command=("-cn", "digits_formats"),
        directory=str(directory),
        cells=tuple(
            SweepJob(
                number=number,
                overrides=(f"save_format={FORMATS[number % 3]}", f"seed={number // 3}", "strict=true"),
                recipe_hash=f"hash-{number}",
                filepath=str(directory / "out" / f"model {number}"),
                format=FORMATS[number % 3],
                directory=str(directory / str(number)),
            )
            for number in range(count)
        ),
        on_error=OnError.CONTINUE,
        started="2026-01-02T03:04:05.678+00:00",
    )


def make_row(cell: SweepJob, **fields: Any) -> JobResult:
    """Makes a row with fields of its own and of its receipt; the checks are of either."""
    number = cell.number
    measured = Measurements(
        reader="exporter.load_model",
        batch_size=1,
        runs=100,
        load_seconds=0.05 * (number + 1),
        first_seconds=0.02,
        median_seconds=0.0004 * (6 - number),
        p90_seconds=0.004,
        p99_seconds=0.005,
        memory_bytes=1_000_000 * (number + 1),
    )
    outcome = fields.get("outcome", Outcome.PROVEN)
    told = {
        "status": Status.WRITTEN if outcome is Outcome.WRITTEN else Status.PROVEN,
        "filepath": cell.filepath,
        "format": cell.format,
        "total_bytes": 20_000 + 9_000 * number,
        "held": (ContentItem("weights", "4 tensors, 1.1 kB"),),
        "left_out": (Omission("metric accumulators", "Keras resets them <at the start>"),),
        "checks": (Check("predictions", True, "bit-equal", "batch sizes 1, 2, 3", 0.0, CheckKind.OUTPUTS),),
        "measurements": measured,
        "finished": "2026-01-02T03:04:07.678+00:00",
        **{name: value for name, value in fields.items() if name in Receipt.__dataclass_fields__},
    }
    receipt = replace(RECEIPT, **told)
    own = {name: value for name, value in fields.items() if name in JobResult.__dataclass_fields__}
    row = replace(describe_success(cell, receipt), **own)
    if outcome in (Outcome.PROVEN, Outcome.WRITTEN):
        return row
    return replace(row, receipt=None, failed_proof=receipt.checks)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Six jobs: four proven, one whose proof failed with a hostile message, and one that was killed."""
    directory = tmp_path_factory.mktemp("sweep")
    plan = make_plan_of(directory, 6)
    for cell in plan.cells[:4]:
        write_row(make_row(cell), Path(cell.directory))
    failed = make_row(
        plan.cells[4],
        outcome=Outcome.FAILED,
        exit_code=4,
        error="not the same <script>document.title = 'broken'</script> model",
        checks=(Check("predictions", False, "largest difference 0.25", "batch size 1", 0.25, CheckKind.OUTPUTS),),
    )
    write_row(failed, Path(plan.cells[4].directory))
    (directory / "4" / "exporter.log").write_text("Traceback (most recent call last):\n  ...\nProofError: it\n")
    (directory / "5").mkdir()
    (directory / "5" / "progress.json").write_text(
        '{"phase": "prove it", "note": "", "started": "2026-01-02T03:04:05.678+00:00", "host": "there", "process": 1}'
    )
    return collect(plan)


def test_a_job_without_a_row_has_ended_without_a_word(sweep: Sweep) -> None:
    assert [row.outcome.value for row in sweep.rows] == ["proven"] * 4 + ["failed"] * 2
    assert sweep.rows[5].error == "ended without a result during `prove it` (killed?)"
    assert sweep.rows[5].host == "there"
    assert sweep.exit_code == 1


def test_the_row_of_another_recipe_does_not_count(tmp_path: Path) -> None:
    plan = make_plan_of(tmp_path, 1)
    write_row(make_row(plan.cells[0], recipe_hash="another"), tmp_path / "0")
    assert collect(plan).rows[0].outcome is Outcome.MISSING


def test_winners(sweep: Sweep) -> None:
    assert sweep.find_winners() == {
        "total_bytes": [0],
        "load_seconds": [0],
        "median_seconds": [3],
        "memory_bytes": [0],
    }


def test_the_printed_table_names_winners_and_commands(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(sweep, "somewhere/report.html")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[1] == "6 jobs: 4 proven, 2 failed"
    assert "smallest              save_format=tf seed=0  20.0 kB" in lines
    assert "go on         exporter -m seed=0,1 resume=true" in lines
    assert max(map(len, lines[3:11])) <= 120, printed
    assert lines[3].split()[:3] == ["#", "save_format", "seed"]
    assert lines[4].split()[:4] == ["0", "◆", "tf", "0"]


def test_nothing_goes_on_where_all_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan_of(tmp_path, 2)
    print_table(Sweep(plan, tuple(map(make_row, plan.cells)), ("a", "b")), "report.html")
    assert "go on" not in capsys.readouterr().out


def make_models(directory: Path) -> Sweep:
    """Two models in two formats each; of the first one all is smaller."""
    plan = make_plan_of(directory, 4)
    names = ("small", "small", "large", "large")
    rows = [
        make_row(cell, overrides=(f"model.name={name}", f"save_format={cell.format}"), read=(f"the {name} one",))
        for cell, name in zip(plan.cells, names, strict=True)
    ]
    return Sweep(plan, tuple(rows), tuple(" ".join(row.overrides) for row in rows))


def test_the_best_is_the_best_of_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_models(tmp_path)
    assert sweep.find_winners()["total_bytes"] == [0, 2]
    assert sweep.front == [0, 1, 2, 3]
    print_table(sweep, "report.html")
    lines = capsys.readouterr().out.splitlines()
    index = lines.index("small")
    assert lines[index + 1] == "  save_format=tf  smallest, fastest to load, least memory"
    assert lines[index + 2] == "  save_format=h5  lowest latency"
    assert lines[index + 3] == "large"
    assert any(
        line.endswith("no other job of its model is at least as good in bytes and median latency") for line in lines
    )


def test_the_page_says_what_the_models_are(tmp_path: Path) -> None:
    page = write_report(make_models(tmp_path)).read_text()
    assert "<title>small, large: 4 jobs</title>" in page
    assert "<b>large</b><div>the large one</div><div>weights: 4 tensors, 1.1 kB</div>" in page
    assert "serving_default: pixels float32 (?, 8, 8, 1) → probabilities float32 of any shape" in page


def test_what_a_source_told_is_a_column_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan_of(tmp_path, 2)
    rows = [make_row(cell, facts={"f1": 0.5 + cell.number / 8, "=data": "new"}) for cell in plan.cells]
    sweep = Sweep(plan, tuple(rows), ("a", "b"))
    print_table(sweep, "report.html")
    heads, first, second = capsys.readouterr().out.splitlines()[3:6]
    assert heads.split()[1:5] == ["save_format", "status", "f1", "=data"]
    assert re.search(r"proven +0\.5 +new ", first)
    assert re.search(r"proven +0\.625 +new ", second)
    write_table(sweep)
    [row, _] = csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines())
    assert (row["facts.f1"], row["facts.=data"]) == ("0.5", "new")
    assert json.loads((tmp_path / "sweep.json").read_text())["rows"][1]["facts"] == {"f1": 0.625, "=data": "new"}
    assert ">f1</button>" in write_report(sweep).read_text()


def test_models_of_one_artifact_each_are_compared_with_each_other(tmp_path: Path) -> None:
    sweep = make_models(tmp_path)
    sweep = replace(sweep, rows=(sweep.rows[0], sweep.rows[2]), labels=("a", "b"))
    assert list(sweep.models) == [""]
    assert sweep.find_winners()["total_bytes"] == [0]


def test_the_json_of_the_table(sweep: Sweep) -> None:
    write_table(sweep)
    table = json.loads((Path(sweep.plan.directory) / "sweep.json").read_text())
    assert table["winners"]["total_bytes"] == [0]
    assert [row["number"] for row in table["rows"]] == [0, 1, 2, 3, 4, 5]
    assert table["rows"][4]["checks"][0]["difference"] == 0.25
    former = json.loads((Path(__file__).parents[1] / "former" / "rows" / "proven.json").read_text())
    for row in table["rows"]:
        assert row.keys() == former.keys() | {
            *("command", "directory", "quantize", "deployment", "machine", "on_front", "beside", "params", "facts")
        }
    assert table["rows"][3]["params"] == {"save_format": "tf", "seed": 1}
    told = ("total_bytes", "held", "left_out", "seconds", "measurements", "peak_memory_bytes")
    assert [table["rows"][4][name] for name in told] == [None, [], [], None, None, None]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        pytest.param(Objective.BYTES, 20_000.0, id="bytes"),
        pytest.param(Objective.LATENCY, 0.0024, id="latency"),
        pytest.param(Objective.DIFFERENCE, 0.0, id="difference"),
    ],
)
def test_objectives(sweep: Sweep, objective: Objective, expected: float) -> None:
    assert find_objective(sweep.rows[0], objective) == pytest.approx(expected)
    assert find_objective(sweep.rows[5], objective) == math.inf


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(0.0004551, "455 µs", id="microseconds"),
        pytest.param(0.0318, "31.8 ms", id="milliseconds"),
        pytest.param(2.331, "2.33 s", id="seconds"),
        pytest.param(200, "3 min 20 s", id="minutes"),
        pytest.param(7300, "2 h 1 min", id="hours"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_jobs_are_named_by_what_differs() -> None:
    assert shorten_overrides([["a=1", "+b=1"], ["a=1", "+b=2"]]) == ["b=1", "b=2"]
    assert shorten_overrides([["a=1"]]) == ["a=1"]
    assert shorten_overrides([[]]) == ["job 0"]


def test_the_front_has_what_no_other_beats() -> None:
    assert find_front([(3, 1), (1, 3), (2, 2), (2, 3), (3, 3)]) == [1, 2, 0]
    assert find_front([(1, 1), (1, 1)]) == [0]


TEXTS_FOR_SPREADSHEETS = {
    "formula": ("=1+1", "'=1+1"),
    "plus": ("+1", "'+1"),
    "minus": ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
    "at": ("@SUM(1)", "'@SUM(1)"),
    "tab": ("\t=1+1", "\\t=1+1"),
    "carriage return": ("\r=1+1", "\\r=1+1"),
    "line break": ("\n=1+1", "\\n=1+1"),
    "full width": ("\uff1d1+1", "'\uff1d1+1"),
    "apostrophe": ("'quoted", "''quoted"),
    "comma and quotes": ('a,"b"', 'a,"b"'),
    "plain": ("it failed = badly", "it failed = badly"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "cell"), TEXTS_FOR_SPREADSHEETS.values(), ids=TEXTS_FOR_SPREADSHEETS)
def test_no_cell_of_the_csv_is_a_formula(text: str, cell: str, tmp_path: Path) -> None:
    [row] = read_csv(tmp_path, error=text, host=text, filepath=text)
    assert (row["error"], row["host"], row["filepath"]) == (cell, cell, cell)
    assert row["error"].removeprefix("'") == text.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
    assert not row["error"].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_every_text_of_the_csv_is_neutral(tmp_path: Path) -> None:
    [row] = read_csv(
        tmp_path, held=(ContentItem("=held", "it"),), left_out=(Omission("@left", "out"),), overrides=("+a=1",)
    )
    assert (row["held"], row["left_out"], row["overrides"]) == ("'=held", "'@left", "'+a=1")


def test_numbers_of_the_csv_stay_numbers(tmp_path: Path) -> None:
    checks = (Check("predictions", True, "", "", -0.5, CheckKind.OUTPUTS),)
    [row] = read_csv(tmp_path, checks=checks, seconds={Phase.WRITE: -1e-05}, total_bytes=12)
    figures = (row["output_difference"], row["save_seconds"], row["total_bytes"], row["state_difference"])
    assert figures == ("-0.5", "-1e-05", "12", "")


def read_csv(directory: Path, **fields: Any) -> list[dict[str, str]]:
    """Writes the table of one row with these fields, and reads `sweep.csv` as a program does."""
    plan = make_plan_of(directory, 1)
    sweep = Sweep(plan, (make_row(plan.cells[0], **fields),), ("one",))
    write_table(sweep)
    with (directory / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_label_in_a_chart_may_hold_dollars(tmp_path: Path) -> None:
    plan = make_plan_of(tmp_path, 2)
    cells = [replace(cell, overrides=(f"a=$x_{cell.number}$ \\frac{{$",)) for cell in plan.cells]
    checks = (Check("$\\undefined$", True, "bit-equal", "$", 0.0),)
    sweep = Sweep(plan, tuple(make_row(cell, checks=checks) for cell in cells), ("$\\bad{$ 0", "$^$ 1"))

    charts = draw_charts(sweep)
    assert [title for title, _, _ in charts] == ["Size", "Time", "Latency against size", "Difference per check"]
    assert all("$^$ 1" in svg for title, _, svg in charts if title != "Latency against size")
    assert "$\\undefined$" in charts[3][2]


def test_a_label_in_a_chart_is_text(tmp_path: Path) -> None:
    plan = make_plan_of(tmp_path, 1)
    checks = (Check("\x1b\u202e<script>", True, "bit-equal", "it", 0.0),)
    sweep = Sweep(plan, (make_row(plan.cells[0], checks=checks),), ("a\nb\x1b</text><script>\u202e",))
    for _, words, svg in draw_charts(sweep):
        assert not {"\x1b", "\u202e"} & set(words + svg)
        assert "<script" not in svg


def test_a_label_of_a_chart_may_have_signs_that_no_font_here_has(tmp_path: Path) -> None:
    plan = make_plan_of(tmp_path, 2)
    sweep = Sweep(plan, tuple(map(make_row, plan.cells)), ("\u0363 0", "\u0363 1"))
    assert len(draw_charts(sweep)) == 4


def test_a_chart_that_fails_costs_that_chart_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan_of(tmp_path, 2)
    sweep = Sweep(plan, tuple(map(make_row, plan.cells)), ("one", "two"))

    def fail(*_: Any) -> Any:
        raise RuntimeError("no chart\n✓ forged")

    monkeypatch.setattr("exporter.sweeps.showing.charts._draw_seconds", fail)
    write_table(sweep)
    page = write_report(sweep).read_text(encoding="utf-8")

    assert [title for title, _, _ in draw_charts(sweep)] == ["Size", "Latency against size", "Difference per check"]
    assert "Latency against size" in page
    assert "Bytes of each artifact" in page
    assert "Seconds to save, to load" not in page
    assert json.loads((tmp_path / "sweep.json").read_text())["rows"][0]["filepath"] == sweep.rows[0].filepath
    assert "A chart of the report could not be drawn." in caplog.text


def test_a_missing_library_names_the_extra(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingDependencyError) as caught:
        write_report(sweep)
    assert str(caught.value) == "The report needs jinja2, which is not installed: pip install 'keras-exporter[report]'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with open_browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, sweep: Sweep) -> webdriver.Chrome:
    browser.get(write_report(sweep).as_uri())
    return browser


def read_column(page: webdriver.Chrome, index: int) -> list[str]:
    return [
        row.find_elements(By.TAG_NAME, "td")[index].text
        for row in page.find_elements(By.CSS_SELECTOR, "#jobs tbody tr")
    ]


@pytest.mark.xdist_group("browser")
def test_the_page_opens_without_a_complaint(page: webdriver.Chrome) -> None:
    assert page.title == "digits_formats: 6 jobs"
    assert page.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert len(page.find_elements(By.CSS_SELECTOR, "figure svg")) == 4
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.xdist_group("browser")
def test_a_column_sorts_by_its_figures_and_keeps_blanks_at_the_end(page: webdriver.Chrome) -> None:
    heads = page.find_elements(By.CSS_SELECTOR, "#jobs th button")
    [median] = [index for index, head in enumerate(heads) if head.text == "median"]
    heads[median].click()
    assert read_column(page, 0) == ["3", "2", "1", "0", "4", "5"]
    heads[median].click()
    assert read_column(page, 0) == ["0", "1", "2", "3", "4", "5"]
    heads[1].click()
    assert read_column(page, 0) == ["1", "4", "2", "5", "0", "3"]


@pytest.mark.xdist_group("browser")
def test_an_error_unfolds_with_its_log_and_nothing_of_it_runs(page: webdriver.Chrome) -> None:
    job = page.find_element(By.ID, "job-4")
    assert job.get_attribute("open") is None
    job.find_element(By.TAG_NAME, "summary").click()
    assert "not the same <script>document.title = 'broken'</script> model" in job.text
    job.find_element(By.CSS_SELECTOR, ":scope > details summary").click()
    assert "Traceback (most recent call last):" in job.text
    assert page.title == "digits_formats: 6 jobs"


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("width", [pytest.param(360, id="phone"), pytest.param(1280, id="desk")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_screen_and_is_readable(page: webdriver.Chrome, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    colors = page.execute_script(
        "const style = getComputedStyle(document.body), text = document.querySelector('figure svg text');"
        "return [style.backgroundColor, style.color, getComputedStyle(text).fill];"
    )
    paper, ink, label = (measure_luminance(color) for color in colors)
    assert (paper > 0.9) == (scheme == "light")
    for color in (ink, label):  # WCAG 2.2, success criterion 1.4.6
        assert (max(color, paper) + 0.05) / (min(color, paper) + 0.05) >= 7


def measure_luminance(color: str) -> float:
    """Measures the relative luminance of a CSS color, as WCAG 2.2 defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.xdist_group("browser")
def test_no_column_is_cut_on_a_desk(page: webdriver.Chrome) -> None:
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    hidden = "const box = document.querySelector('.scroll'); return box.scrollWidth - box.clientWidth"
    assert page.execute_script(hidden) == 0


@pytest.mark.xdist_group("browser")
def test_a_job_that_failed_says_why_in_its_row(page: webdriver.Chrome) -> None:
    [row] = [row for row in page.find_elements(By.CSS_SELECTOR, "#jobs tbody tr") if row.text.startswith("4 ")]
    assert row.find_element(By.CSS_SELECTOR, ".why").text.startswith("not the same <script>")


@pytest.mark.xdist_group("browser")
def test_links_lead_to_the_artifacts(page: webdriver.Chrome, sweep: Sweep) -> None:
    links = [link.get_dom_attribute("href") for link in page.find_elements(By.CSS_SELECTOR, "#job-0 dl a")]
    assert links[0] == "out/model%200"
    # The others are inside the page, which can be sent to somebody without them.
    receipt = b64decode(links[1].removeprefix("data:application/json;base64,"))
    assert receipt.decode() == sweep.rows[0].receipt.to_json()  # type: ignore[union-attr]
    files = page.find_elements(By.CSS_SELECTOR, "footer a")
    assert [each.get_dom_attribute("download") for each in files] == ["sweep.json", "sweep.csv"]
    table = b64decode(files[1].get_dom_attribute("href").removeprefix("data:text/csv;base64,")).decode()
    assert [row["number"] for row in csv.DictReader(table.splitlines())] == ["0", "1", "2", "3", "4", "5"]
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    pdf = page.execute_cdp_cmd("Page.printToPDF", {})
    assert len(pdf["data"]) > 10_000
