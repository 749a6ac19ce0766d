"""Recipes, composed by a Hydra of our own: what the process has of Hydra stays as it is."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import setbase
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from exporter.cli.hydra_private import ConfigLoaderImpl, create_config_search_path, isolated
from exporter.config import JobConfig
from exporter.config.checking import is_encodable
from exporter.config.directories import CONFIG_DIRECTORY, RECIPES_DIRECTORY
from exporter.errors import Fault, UsageError
from exporter.saving.formats import FORMATS, find_chosen
from exporter.text.showing import describe_value, show

# The check of recipes is imported by what uses it: `--cfg` alone does not pay for it.

PRIMARY = "config"
COMMAND_LINE = "the command line"
VERSION_BASE = "1.3"  # of Hydra: what a recipe means

# What composes changes what all threads see.
_one_at_a_time = threading.RLock()
_is_choosing = ContextVar("is_choosing", default=False)
_for_good = ExitStack()


class RecipesSearchPath(SearchPathPlugin):
    """Lets `-cn NAME` find the recipes that come with the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts the recipes behind `conf`, and behind a directory of the user's own: a recipe there stands before ours.

        Args:
            search_path: Hydra's search path, which is changed.
        """
        # Hydra puts that directory before the first place of this provider.
        search_path.append("schema", f"file://{RECIPES_DIRECTORY}")


def _name_suffix(save_format: str | None) -> str:
    chosen = FORMATS.get(save_format or "")
    return "" if chosen is None else "".join(chosen.suffixes[:1]) or chosen.ending


def _choose_format(key: str, *, _parent_: Any) -> str:
    """Gives the format that belongs to a path by its suffix, the first one where it has none.

    A path may take its suffix from the format in turn, as the default does: then it is read as it is written.
    """
    written: Any = OmegaConf.to_container(OmegaConf.masked_copy(_parent_, [key]), resolve=False)
    path = written.get(key)
    if not _is_choosing.get():
        before = _is_choosing.set(True)
        try:
            path = _parent_[key]
        except OmegaConfBaseException:  # which is a fault of the path, and told as such
            pass
        finally:
            _is_choosing.reset(before)
    return find_chosen(str(path), None).name


def _name_variant(include_optimizer: bool, quantize: str | None = None) -> str:
    return ("" if include_optimizer else "-without-optimizer") + ("" if quantize is None else f"-{quantize}")


def _name_model(model: object) -> str:
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


@contextmanager
def own_hydra() -> Iterator[None]:
    """Gives the block a Hydra that knows our recipes and resolvers; the one of the process is as before afterwards."""
    with isolated():
        setbase(VERSION_BASE)
        setup_globals()
        Plugins.instance().register(RecipesSearchPath)
        _put_presets_first()
        OmegaConf.register_new_resolver("exporter.suffix", _name_suffix, replace=True)
        OmegaConf.register_new_resolver("exporter.format", _choose_format, replace=True)
        OmegaConf.register_new_resolver("exporter.variant", _name_variant, replace=True)
        OmegaConf.register_new_resolver("exporter.name", _name_model, replace=True)
        OmegaConf.register_new_resolver("exporter.process", os.getpid, replace=True)
        yield


def open_own_hydra() -> None:
    """Gives this process, which is ours, such a Hydra until it ends, unless it has that already."""
    if not OmegaConf.has_resolver("exporter.process"):
        _for_good.enter_context(own_hydra())


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

    Example:
        config = exporter.compose("digits", ["save_format=h5", "seed=3"])
        config.filepath  # exports/digits.h5
    """
    from exporter.cli.preflight.jobs import Preflight

    _check_arguments(recipe, overrides, config_dir)
    with _one_at_a_time, own_hydra():
        [job, *others] = Preflight(open_loader(config_dir), recipe, place="the overrides").check(overrides)
    if others:
        message = f"is a sweep of {len(others) + 1} jobs; add the override hydra.mode=RUN to compose one of them"
        raise UsageError([Fault(recipe, message)])
    return job.config


def to_config(composed: DictConfig) -> JobConfig:
    """Turns what Hydra hands to a job into plain dataclasses.

    Args:
        composed: The job's config.

    Returns:
        The config.

    Raises:
        UsageError: With every fault.
    """
    config, refusals = to_sweep_config(composed)
    if refusals:
        raise UsageError(refusals)
    return config


def to_sweep_config(composed: DictConfig) -> tuple[JobConfig, list[Fault]]:
    """Turns what Hydra hands to a job of a sweep into plain dataclasses.

    Args:
        composed: The job's config.

    Returns:
        The config, and why it is refused; see `Fault.is_refusal`.

    Raises:
        UsageError: With every fault, where there is another one.
    """
    from exporter.cli.preflight.reading import read_config

    config, faults = read_config(composed)
    if config is None:
        raise UsageError(faults)
    return config, faults


def _check_arguments(recipe: object, overrides: object, config_dir: object) -> None:
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


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and is_encodable(value)


def open_loader(config_dir: str | os.PathLike[str] | None) -> ConfigLoaderImpl:
    """Finds recipes and group options, inside of `own_hydra`.

    Args:
        config_dir: A directory of the user's own; None for none.

    Raises:
        UsageError: There is no such directory.
    """
    search_path = create_config_search_path(str(CONFIG_DIRECTORY))
    if config_dir is not None:
        directory = Path(config_dir)
        if not os.path.isdir(directory):
            fault = Fault("--config-dir", f"received {show(str(config_dir))}; there is no such directory", COMMAND_LINE)
            raise UsageError([fault])
        search_path.prepend("command-line", f"file://{directory.resolve()}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)
