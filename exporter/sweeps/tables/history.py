"""The sweeps that have been run, as they lie on the disk, wherever their directories were moved to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.errors import ArtifactError
from exporter.sweeps.records.plans import PLAN, Plan, read_plan
from exporter.sweeps.records.results import Outcome
from exporter.sweeps.tables.collecting import Sweep, collect


def load_sweep(path: Path) -> Sweep:
    """Reads a sweep that has ended, or how far one has come.

    Args:
        path: Its directory, or a file in it such as its report.

    Raises:
        ArtifactError: There is no sweep.
    """
    directory = path if path.is_dir() else path.parent
    plan = read_plan(directory)
    if plan is None:
        what = "no plan.json that can be read" if directory.is_dir() else "no such directory"
        raise ArtifactError(f"{path} is no sweep: {what}. `exporter sweeps` lists those of this directory.")
    return collect(_move(plan, directory))


def _move(plan: Plan, directory: Path) -> Plan:
    """Lets a plan name the directories of its jobs where they are now."""
    here = directory.resolve()
    if Path(plan.directory) == here:
        return plan
    cells = (
        replace(cell, directory=str(here / Path(cell.directory).relative_to(plan.directory)))
        if Path(cell.directory).is_relative_to(plan.directory)
        else cell
        for cell in plan.cells
    )
    return replace(plan, directory=str(here), cells=tuple(cells))


def list_sweeps(directory: Path) -> list[Sweep]:
    """Reads all sweeps below a directory, the newest first.

    Args:
        directory: It, or one of those above it, is the directory of each sweep.

    Raises:
        ArtifactError: There are none.
    """
    plans = [_move(plan, file.parent) for file in directory.rglob(PLAN) if (plan := read_plan(file.parent)) is not None]
    if not plans:
        raise ArtifactError(f"There is no sweep below {directory}. Run one: exporter -m save_format=tf,keras")
    return [collect(plan) for plan in sorted(plans, key=lambda plan: plan.started, reverse=True)]


def describe_sweep(sweep: Sweep) -> dict[str, Any]:
    """Says in short as plain data what a sweep was."""
    return {
        "directory": sweep.plan.directory,
        "started": sweep.plan.started,
        "recipe": sweep.plan.recipe,
        "command": sweep.plan.command,
        "jobs": len(sweep.rows),
        "outcomes": {outcome.value: count for outcome in Outcome if (count := sweep.count(outcome))},
        "params": [column.title for column in sweep.parameters],
    }
