"""What a recipe and some of its overrides compose to: each is applied by itself."""

import copy
import os
import re
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from exporter.cli import hydra_private
from exporter.cli.mistakes import explain_unknown_key
from exporter.cli.preflight.faults import FaultList, relate, word_error
from exporter.cli.preflight.overrides import PLUGINS, OverrideReader, word_extra
from exporter.config import JobConfig
from exporter.config.checking import convert_value, explain_unknown, locate, suggest
from exporter.errors import Fault, UsageError
from exporter.exporting import references
from exporter.text.showing import show

# What Hydra and OmegaConf raise for a mistake in YAML or in an override: not all of it is of their own classes.
_MISTAKES = (
    *(HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, UserWarning, OSError),
    RecursionError,
)


class Composer:
    """Composes configs from a recipe, and adds what is wrong to the faults."""

    def __init__(self, loader: hydra_private.ConfigLoaderImpl, overrides: OverrideReader, faults: FaultList) -> None:
        self._loader = loader
        self._overrides = overrides
        self._faults = faults
        self._recipe = faults.recipe
        self._bases: dict[tuple[str, ...], DictConfig | None] = {}

    def check_recipe_exists(self) -> None:
        """Raises a `UsageError` with every fault so far if there is no such recipe."""
        with suppress(OSError):  # a name that is too long for any file
            if self._loader.repository.config_exists(self._recipe):
                return
        known = [name for name in self._loader.get_group_options("", ObjectType.CONFIG) if not name.startswith("_")]
        here = Path(hydra_private.name_file(self._recipe))
        remedy = suggest(self._recipe, known)
        if os.path.isfile(here):
            remedy = f"; {here} is in this directory: add --config-dir ."
        self._faults.add_typed(show(self._recipe), f"no recipe of this name; allowed: {', '.join(known)}{remedy}")
        raise UsageError(self._faults.listed)

    def compose(self, overrides: Sequence[Override]) -> DictConfig | None:
        """Composes a config with Hydra's node; adds what is wrong; None when there is nothing to go on with."""
        is_group = self._overrides.is_group
        choices = [each for each in overrides if is_group(each) or each.key_or_group == "hydra.searchpath"]
        lines = tuple(each.input_line or "" for each in choices)
        if lines not in self._bases:
            self._bases[lines] = self._compose_choices(lines)
        base = self._bases[lines]
        if base is None:
            return None
        composed = copy.deepcopy(base)
        for override in overrides:
            if override not in choices:
                self._apply(override, composed)
        return composed

    def _compose_choices(self, lines: tuple[str, ...]) -> DictConfig | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                return self._loader.load_configuration(
                    self._recipe, list(lines), run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False
                )
        except MissingConfigException as error:
            missing = error.missing_cfg_file or self._recipe
            options = list(error.options or [])
            known = f"; allowed: {', '.join(options)}{suggest(Path(missing).name, options)}" if options else ""
            if Path(missing).name in PLUGINS.values() and missing.startswith("hydra/"):
                known = f"; it {word_extra(Path(missing).name)}"
            self._faults.add_of_recipe(missing, f"a defaults list names it, and there is no such file{known}")
        except yaml.YAMLError as error:
            self._add_yaml_error(error)
        except UnicodeDecodeError:
            self._faults.add_of_recipe(self._recipe, "the file is not text in UTF-8")
        except UserWarning as warning:
            # Hydra's only warning here is that the recipe's own keys have no place among its defaults.
            remedy = "put _self_ at the end of its defaults list" if "_self_" in str(warning) else str(warning)
            self._faults.add_of_recipe(self._recipe, remedy)
        except _MISTAKES as error:
            if lines and self._compose_choices(()) is not None:
                self._faults.add_typed(" ".join(lines), word_error(error, count=2))
            else:
                self._faults.add_of_recipe(self._recipe, word_error(error))
        return None

    def _add_yaml_error(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None)
        if mark is None or mark.name is None:
            self._faults.add_of_recipe(self._recipe, f"not valid YAML: {word_error(error)}")
            return
        file = Path(mark.name)
        written = file.read_text(encoding="utf-8").splitlines()
        shown = written[mark.line].strip() if mark.line < len(written) else "the end of the file"
        problem = getattr(error, "problem", None) or "cannot be read"
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        self._faults.add(where, f"not valid YAML: {problem}; the line is: {shown}", relate(file))

    def _apply(self, override: Override, composed: DictConfig) -> None:
        path = override.key_or_group
        if not override.is_hydra_override():
            hint, free, allowed = locate(path, JobConfig)
            message = None
            if hint is None:
                message = explain_unknown_key(path, self._find_typed(path), allowed)
            elif override.is_delete() and not free:
                message = f"cannot be removed; give it a value: {path}=VALUE"
            if message is not None:
                self._faults.add_composed(path, message)
                return
        try:
            hydra_private.apply_override(override, composed)
        except _MISTAKES as error:
            message = self._explain_refusal(override, composed, error)
            self._faults.add_composed(path, message)

    def _find_typed(self, path: str) -> str | None:
        """Finds what was typed for a key; None where nothing was, or where it was to be removed."""
        typed = [each for each in self._faults.given if each.key_or_group == path and not each.is_delete()]
        return typed[-1].get_value_string() if typed else None

    def _explain_refusal(self, override: Override, composed: DictConfig, error: Exception) -> str:
        """Says why Hydra did not apply an override."""
        path = override.key_or_group
        line = override.input_line or ""
        if override.is_hydra_override():
            return word_error(error.__cause__ or error)
        if override.is_add():
            return f"is in the config already; write {shlex.quote(line.lstrip('+'))}"
        parent, _, name = path.rpartition(".")
        source = references.find_source(_select(composed, parent)) if parent == "model" else None
        if source is not None and name not in references.name_arguments(source):
            return explain_unknown(name, references.name_arguments(source))
        received = override.value()
        if isinstance(received, list) and isinstance(_select(composed, path), dict) and _name_objects(received):
            return _explain_list(path, received)
        if override.is_delete():
            siblings = _select(composed, parent)
            return explain_unknown(name, map(str, siblings) if isinstance(siblings, dict) else ())
        refused: list[Fault] = []
        convert_value(override.value(), locate(path, JobConfig)[0], path, refused)
        if refused:
            return "; ".join(
                fault.message if fault.path == path else f"{fault.path}: {fault.message}" for fault in refused
            )
        if OmegaConf.select(composed, path, throw_on_missing=False) is None:
            return f"is not in the config yet; to add it, write {shlex.quote('+' + line)}"
        return word_error(error.__cause__ or error)

    def has_defaults(self) -> bool:
        """Whether the recipe starts from others; one that cannot be read is told of when it is composed."""
        try:
            recipe = self._loader.repository.load_config(self._recipe)
        except (yaml.YAMLError, *_MISTAKES):
            return True
        return recipe is None or bool(recipe.defaults_list)

    def lacks(self, composed: DictConfig, path: str) -> bool:
        """Whether a key is new to the config, and belongs there: to the schema, or to the model's function."""
        parent, _, name = path.rpartition(".")
        prefixes = [path[: dot.start()] for dot in re.finditer(r"\.|$", path)]
        located = [locate(prefix, JobConfig)[:2] for prefix in prefixes]
        if located[-1][0] is None or (any(free for _, free in located) and not path.startswith("model.")):
            return False  # what may have any name is added by a `+`, so that a mistyped one is no new one
        siblings = _select(composed, parent)
        source = references.find_source(siblings) if parent == "model" else None
        if source is not None and name not in references.name_arguments(source):
            return False
        return not isinstance(siblings, dict) or name not in siblings

    def read_setting(self, composed: DictConfig, path: str) -> Any:
        """Gives a setting of Hydra's own, or None after adding what is wrong with it."""
        try:
            setting = OmegaConf.select(composed, path, throw_on_missing=False)
            return OmegaConf.to_container(setting, resolve=True) if OmegaConf.is_config(setting) else setting
        except OmegaConfBaseException as error:
            self._faults.add_composed(path, f"cannot be resolved: {word_error(error)}")
            return None


def _select(composed: DictConfig, path: str) -> Any:
    """Gives a part of a config as plain data, with interpolations as they are written."""
    node = OmegaConf.select(composed, path) if path else composed
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def _name_objects(received: Sequence[object]) -> bool:
    """Whether a list holds nothing but dotted names, such as my_package.Layer."""
    words = [str(each).split(".") for each in received]
    return bool(words) and all(len(parts) > 1 and all(map(str.isidentifier, parts)) for parts in words)


def _explain_list(path: str, received: Sequence[object]) -> str:
    """Says how the entries of a mapping are typed that were given as a list: each under the last part of its name."""
    lines = [f"{path}.{str(each).rpartition('.')[2]}={each}" for each in received]
    return f"received a list; expected a name for each: {shlex.join(lines)}"
