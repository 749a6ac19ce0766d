"""Composing recipes and building objects with Hydra; besides, only `_preflight` and `_interpolations` know it."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf

from exporter.config import JobConfig, MeasureMode
from exporter.config.checking import explain_unknown, is_encodable
from exporter.config.directories import CONFIG_DIRECTORY, RECIPES_DIRECTORY
from exporter.errors import Fault, UsageError
from exporter.saving.formats import FORMATS
from exporter.text.showing import describe_value, show

if TYPE_CHECKING:
    from exporter.cli.preflight import Job, Preflight
    from exporter.sweeps.records.plans import Plan

# `_preflight` and the sweeps are imported by what uses them: `--help` and `--cfg` alone do not pay for them.

PRIMARY = "config"
COMMAND_LINE = "the command line"
_SHELLS = ("bash", "fish", "zsh")


class RecipesSearchPath(SearchPathPlugin):
    """Lets `-cn NAME` find the recipes that come with the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts the recipes behind `conf`.

        Args:
            search_path: Hydra's search path, which is changed.
        """
        search_path.append("exporter", f"file://{RECIPES_DIRECTORY}")


def _name_suffix(save_format: str | None) -> str:
    return "".join(FORMATS[save_format].suffixes[:1]) if save_format in FORMATS else ""


def _name_variant(include_optimizer: bool) -> str:
    return "" if include_optimizer else "-without-optimizer"


def _name_model(model: Any) -> str:
    """Gives a model's name for its path: as it is called, as the file that it comes from, or as its function."""
    given: Any = OmegaConf.to_container(model, resolve=False) if isinstance(model, DictConfig) else {}
    for key in ("name", "filepath", "config"):
        value = given.get(key)
        if isinstance(value, str) and value != MISSING and Path(value).stem:
            return Path(value).stem
    return str(given.get("_target_", "model")).rpartition(".")[2]


def _put_presets_first() -> None:
    """Takes the plugins' own launcher configs out of the way of the files in `conf/hydra/launcher`.

    Hydra would read such a file as a part of the config of the same name that the plugin has stored, and warn of it.
    """
    stored: Any = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for preset in (CONFIG_DIRECTORY / "hydra" / "launcher").glob("*.yaml"):
        stored.pop(preset.name, None)


def _keep_the_source(source: ConfigSource, copied: dict[int, Any]) -> ConfigSource:
    """Gives the source of stored configs itself for its copy: it holds the store alone, whose loads are copies.

    Hydra copies the sources of configs, and with this one the whole store, whenever it lists the options of a group:
    that is a third of the time of `--help`. The store itself is still copied for the processes of a launcher, which
    put into their copy what a plugin stores.
    """
    return source


Plugins.instance().register(RecipesSearchPath)  # the instance has found the other plugins by now
# Not the class by its name: looking for the plugins, Hydra has run its module once more.
SourcesRegistry.instance().resolve("structured").__deepcopy__ = _keep_the_source  # type: ignore[attr-defined]
_put_presets_first()
OmegaConf.register_new_resolver("exporter.suffix", _name_suffix, replace=True)
OmegaConf.register_new_resolver("exporter.variant", _name_variant, replace=True)
OmegaConf.register_new_resolver("exporter.name", _name_model, replace=True)
OmegaConf.register_new_resolver("exporter.process", os.getpid, replace=True)


def compose(
    recipe: str = PRIMARY, overrides: Sequence[str] = (), config_dir: str | os.PathLike[str] | None = None
) -> JobConfig:
    """Composes a recipe, as the command line does.

    Args:
        recipe: The name of a recipe that comes with the package, or of one in `config_dir`.
        overrides: Such as `save_format=h5`, in Hydra's grammar.
        config_dir: A directory with recipes and group options of your own.

    Returns:
        The config, as plain dataclasses.

    Raises:
        UsageError: With every fault of the recipe and the overrides.
    """
    from exporter.cli.preflight import Preflight

    _check_arguments(recipe, overrides, config_dir)
    [job, *others] = Preflight(_open_loader(config_dir), recipe, place="the overrides").check(overrides)
    if others:
        message = f"is a sweep of {len(others) + 1} jobs; add the override hydra.mode=RUN to compose one of them"
        raise UsageError([Fault(recipe, message)])
    return job.config


def read_command_line(arguments: Sequence[str]) -> "tuple[list[str], Plan | None]":
    """Checks a command line and every job that it asks for.

    Args:
        arguments: Without the program's name; flags and overrides in any order.

    Returns:
        The arguments with the overrides at the end, where Hydra wants them, and the sweep that they ask for, if any.

    Raises:
        UsageError: With every fault.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageError([Fault(error.argument_name or "flags", error.message, COMMAND_LINE)]) from None
    _check_flags(flags, unknown, [name for action in parser._actions for name in action.option_strings])
    words = [*(each for each in arguments if each not in flags.overrides), *flags.overrides]
    only_shows = bool(flags.help or flags.cfg or flags.info)
    nothing_given = not (flags.overrides or flags.config_name or flags.config_dir)
    if flags.shell_completion or flags.hydra_help or (only_shows and nothing_given):
        return words, None
    from exporter.cli.preflight import quote
    from exporter.sweeps.records.plans import describe_cell, find_earlier, hash_recipe, make_plan

    preflight, jobs = _check_jobs(flags, flags.overrides)
    if preflight.sweep_directory is None or only_shows:
        return words, None
    hashes = [hash_recipe(job.config) for job in jobs]
    if jobs[0].config.resume and not any(word.startswith("hydra.sweep.dir=") for word in words):
        root = Path(preflight.sweep_directory).parents[1]  # a day and a moment below it
        if earlier := find_earlier(root, flags.config_name or PRIMARY, hashes):
            preflight, jobs = _check_jobs(flags, [*flags.overrides, f"hydra.sweep.dir={quote(str(earlier))}"])
            hashes = [hash_recipe(job.config) for job in jobs]
    directory = preflight.sweep_directory or ""
    words = [word for word in words if not word.startswith("hydra.sweep.dir=")]
    return [*words, f"hydra.sweep.dir={quote(directory)}"], make_plan(
        recipe=flags.config_name or PRIMARY,
        command=tuple(arguments),
        job_command=_word_job_command(flags, jobs[0].config),
        directory=directory,
        cells=()
        if preflight.is_search
        else tuple(
            describe_cell(number, job.overrides, job.config, digest, job.directory)
            for number, (job, digest) in enumerate(zip(jobs, hashes, strict=True))
        ),
        on_error=jobs[0].config.on_error,
        resume=jobs[0].config.resume,
        meeting=jobs[0].config.meeting,
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _check_jobs(flags: argparse.Namespace, overrides: Sequence[str]) -> "tuple[Preflight, list[Job]]":
    from exporter.cli.preflight import Preflight

    preflight = Preflight(_open_loader(flags.config_dir), flags.config_name or PRIMARY, COMMAND_LINE)
    return preflight, preflight.check(overrides, multirun=flags.multirun)


def _word_job_command(flags: argparse.Namespace, config: JobConfig) -> tuple[str, ...]:
    words = []
    if flags.config_dir is not None:
        words += ["--config-dir", flags.config_dir]
    if flags.config_name is not None:
        words += ["-cn", flags.config_name]
    if not flags.multirun:
        words.append("hydra.mode=RUN")  # the recipe asks for a sweep by itself
    if config.measure.mode is MeasureMode.SWEEPS:
        words.append("measure=always")
    return tuple(words)


def to_config(composed: DictConfig) -> JobConfig:
    """Turns what Hydra hands to a job into plain dataclasses.

    Args:
        composed: The job's config.

    Returns:
        The config.

    Raises:
        UsageError: With every fault.
    """
    from exporter.cli.preflight import read_config

    config, faults = read_config(composed)
    if config is None:
        raise UsageError(faults)
    return config


def _check_arguments(recipe: Any, overrides: Any, config_dir: Any) -> None:
    """Refuses what is no text where one is needed: a command line has nothing else, and Python does."""
    faults = []
    if not _is_text(recipe):
        faults.append(Fault("recipe", f"received {describe_value(recipe)}; expected the name of a recipe"))
    listed = overrides if isinstance(overrides, list | tuple) else [None]
    if not all(isinstance(each, str) for each in listed):
        expected = "expected a list of texts, such as ['save_format=h5']"
        faults.append(Fault("overrides", f"received {describe_value(overrides)}; {expected}"))
    directory = os.fspath(config_dir) if isinstance(config_dir, os.PathLike) else config_dir
    if directory is not None and not _is_text(directory):
        faults.append(Fault("config_dir", f"received {describe_value(config_dir)}; expected the path of a directory"))
    if faults:
        raise UsageError(faults)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and is_encodable(value)


def _open_loader(config_dir: str | os.PathLike[str] | None) -> ConfigLoaderImpl:
    setup_globals()
    search_path = create_config_search_path(str(CONFIG_DIRECTORY))
    if config_dir is not None:
        directory = Path(config_dir)
        if not os.path.isdir(directory):
            fault = Fault("--config-dir", f"received {show(str(config_dir))}; there is no such directory", COMMAND_LINE)
            raise UsageError([fault])
        search_path.prepend("command-line", f"file://{directory.resolve()}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def _check_flags(flags: argparse.Namespace, unknown: Sequence[str], known: Sequence[str]) -> None:
    """Refuses the flags and combinations for which Hydra would print a traceback, or that do not belong here."""
    faults = [Fault(flag, explain_unknown(flag, known).replace("key", "flag", 1)) for flag in unknown]
    modes = {
        "--run": flags.run,
        "--multirun": flags.multirun,
        "--cfg": flags.cfg is not None,
        "--info": flags.info is not None,
        "--shell-completion": flags.shell_completion,
    }
    chosen = [name for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) > 1:
        faults.append(Fault(" ".join(chosen), "only one of these can be given"))
    if flags.resolve and flags.cfg is None and not flags.help:
        faults.append(Fault("--resolve", "goes with --cfg or --help"))
    if flags.hydra_help and flags.overrides:
        faults.append(Fault("--hydra-help", "takes no overrides"))
    if flags.config_path is not None:
        faults.append(Fault("--config-path", f"write --config-dir {flags.config_path}, which adds to what is there"))
    if flags.experimental_rerun is not None:
        faults.append(Fault("--experimental-rerun", "would load a pickle, which can run code; give the recipe instead"))
    if flags.shell_completion:
        # The shell itself asks with `query`, and gives the line in the environment.
        commands = ("install", "uninstall", "query") if "COMP_LINE" in os.environ else ("install", "uninstall")
        allowed = [f"{command}={shell}" for command in commands for shell in _SHELLS]
        if len(flags.overrides) != 1 or flags.overrides[0] not in allowed:
            received = " ".join(flags.overrides) or "nothing"
            faults.append(Fault("--shell-completion", f"received {received}; allowed: {', '.join(allowed)}"))
    if faults:
        raise UsageError([replace(fault, place=COMMAND_LINE) for fault in faults])
