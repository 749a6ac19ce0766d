"""The words of a command line: flags, and overrides that ask for an export or for a sweep of them."""

import argparse
import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.composing import COMMAND_LINE, PRIMARY, open_loader
from exporter.cli.hydra_private import get_args_parser, list_flags, write_flags
from exporter.cli.mistakes import take_key_flags
from exporter.cli.shorthands import expand, make_importable, name_elsewhere
from exporter.config import JobConfig, MeasureMode
from exporter.config.checking import explain_unknown
from exporter.errors import Fault, UsageError

if TYPE_CHECKING:
    from exporter.cli.preflight.jobs import Job, Preflight
    from exporter.sweeps.records.plans import Plan

# The check of recipes and the sweeps are imported by what uses them: `--cfg` alone does not pay for them.


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command line asks for.

    Attributes:
        words: As Hydra takes them, with the overrides at the end.
        plan: The sweep that they ask for; None for a single run.
        directories: Where modules of the user's own are looked for, behind all others.
    """

    words: list[str]
    plan: "Plan | None" = None
    directories: tuple[str, ...] = ()


def read_command_line(arguments: Sequence[str], commands: Collection[str] = ()) -> CommandLine:
    """Checks a command line and every job that it asks for, inside of `own_hydra`.

    Args:
        arguments: Without the program's name; flags, overrides and what stands for them, in any order.
        commands: The names of the commands, which are not read here; one of them may have been meant.

    Raises:
        UsageError: With every fault.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    parser.add_argument("-o", metavar="PATH", dest="outputs", action="append", default=[])
    others, mistaken = take_key_flags(arguments, list_flags(parser))
    try:
        flags, unknown = parser.parse_known_intermixed_args(others)
    except argparse.ArgumentError as error:
        raise UsageError([*mistaken, Fault(error.argument_name or "flags", error.message, COMMAND_LINE)]) from None
    outputs = vars(flags).pop("outputs")
    _check_flags(flags, unknown, list_flags(parser), mistaken)
    if flags.hydra_help:
        return CommandLine([*write_flags(parser, flags), *flags.overrides])
    try:
        expansion = expand(flags.overrides, outputs, flags.config_dir, flags.config_name, commands)
    except UsageError as error:
        raise UsageError([replace(fault, place=COMMAND_LINE) for fault in error.faults]) from None
    flags.config_dir, flags.config_name = expansion.config_dir, expansion.config_name
    directories = tuple(expansion.directories)
    only_shows = bool(flags.cfg or flags.info)
    if only_shows and not (expansion.overrides or flags.config_name or flags.config_dir):
        return CommandLine(write_flags(parser, flags))
    make_importable(directories)
    preflight, jobs = _check_jobs(flags, expansion.overrides)
    source, says_where = expansion.source, any(each.startswith("filepath=") for each in expansion.overrides)
    if source is not None and not says_where and any(_writes(job.config, source) for job in jobs):
        preflight, jobs = _check_jobs(flags, [*expansion.overrides, name_elsewhere(source)])
    words = [*write_flags(parser, flags), *preflight.overrides]
    if preflight.sweep_directory is None or only_shows:
        return CommandLine(words, None, directories)
    words, plan = _plan_sweep(arguments, words, flags, preflight, jobs, directories)
    return CommandLine(words, plan, directories)


def _plan_sweep(
    arguments: Sequence[str],
    words: list[str],
    flags: argparse.Namespace,
    preflight: "Preflight",
    jobs: "list[Job]",
    directories: Sequence[str],
) -> "tuple[list[str], Plan]":
    from exporter.cli.preflight.overrides import quote
    from exporter.sweeps.records.plans import describe_job, find_earlier, hash_recipe, make_plan

    recipe = flags.config_name or PRIMARY
    hashes = [hash_recipe(job.config) for job in jobs]
    directory = preflight.sweep_directory or ""
    if jobs[0].config.resume and not any(word.startswith("hydra.sweep.dir=") for word in words):
        root = Path(directory).parents[1]  # a day and a moment below it
        if earlier := find_earlier(root, recipe, hashes):
            preflight, jobs = _check_jobs(flags, [*preflight.overrides, f"hydra.sweep.dir={quote(str(earlier))}"])
            hashes = [hash_recipe(job.config) for job in jobs]
            directory = preflight.sweep_directory or ""
    words = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    return [*words, f"hydra.sweep.dir={quote(directory)}"], make_plan(
        recipe=recipe,
        command=tuple(arguments),
        job_command=_word_job_command(flags, jobs[0].config, directories),
        directory=directory,
        cells=()
        if preflight.is_search
        else tuple(
            describe_job(number, job.overrides, job.config, digest, job.directory)
            for number, (job, digest) in enumerate(zip(jobs, hashes, strict=True))
        ),
        on_error=jobs[0].config.on_error,
        resume=jobs[0].config.resume,
        results_url=jobs[0].config.results_url,
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _check_jobs(flags: argparse.Namespace, overrides: Sequence[str]) -> "tuple[Preflight, list[Job]]":
    from exporter.cli.preflight.jobs import Preflight

    preflight = Preflight(open_loader(flags.config_dir), flags.config_name or PRIMARY, COMMAND_LINE)
    return preflight, preflight.check(overrides, multirun=flags.multirun)


def _word_job_command(flags: argparse.Namespace, config: JobConfig, directories: Sequence[str]) -> tuple[str, ...]:
    words = []
    elsewhere = [each for each in directories if each != os.getcwd()]
    if flags.config_dir is not None:
        words += ["--config-dir", flags.config_dir]
    elif elsewhere:  # what stands there can be imported
        words += ["--config-dir", elsewhere[0]]
    if flags.config_name is not None:
        words += ["-cn", flags.config_name]
    if not flags.multirun:
        words.append("hydra.mode=RUN")  # the recipe asks for a sweep by itself
    if config.measure.mode is MeasureMode.SWEEPS:
        words.append("measure=always")
    return tuple(words)


def _check_flags(
    flags: argparse.Namespace, unknown: Sequence[str], known: Sequence[str], mistaken: Sequence[Fault]
) -> None:
    """Refuses the flags and combinations for which Hydra would print a traceback, or that do not belong here."""
    faults = [*mistaken]
    faults += [Fault(flag, explain_unknown(flag, known).replace("key", "flag", 1)) for flag in unknown]
    modes = {
        "--run": flags.run,
        "--multirun": flags.multirun,
        "--cfg": flags.cfg is not None,
        "--info": flags.info is not None,
    }
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) > 1:
        faults.append(Fault(" ".join(chosen), "only one of these can be given"))
    if flags.resolve and flags.cfg is None:
        faults.append(Fault("--resolve", "goes with --cfg"))
    if flags.hydra_help and flags.overrides:
        faults.append(Fault("--hydra-help", "takes no overrides"))
    if flags.config_path is not None:
        faults.append(
            Fault("--config-path", f"write --config-dir {shlex.quote(flags.config_path)}, which adds to what is there")
        )
    if flags.experimental_rerun is not None:
        faults.append(Fault("--experimental-rerun", "would load a pickle, which can run code; give the recipe instead"))
    if flags.shell_completion:
        faults.append(Fault("--shell-completion", "write exporter completion bash, or zsh or fish"))
    if faults:
        raise UsageError([replace(fault, place=COMMAND_LINE) for fault in faults])


def _writes(config: JobConfig, path: Path) -> bool:
    from exporter.exporting.destinations.choosing import find_target

    target = find_target(config)
    return target is not None and os.path.realpath(target) == os.path.realpath(path)
