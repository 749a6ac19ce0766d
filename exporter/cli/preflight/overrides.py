"""Overrides, each parsed and checked by itself."""

import os
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from exporter.cli.hydra_private import ConfigLoaderImpl
from exporter.cli.preflight.faults import FaultList
from exporter.config import JobConfig, read_keys
from exporter.config.checking import explain_choice
from exporter.text.showing import show

# The plugins that come with an extra of the same name, by the package that holds them.
PLUGINS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_ray_launcher": "ray",
    "hydra_submitit_launcher": "submitit",
    "hydra_optuna_sweeper": "optuna",
}


class OverrideReader:
    """Parses overrides, and adds what is wrong with one to the faults."""

    def __init__(self, loader: ConfigLoaderImpl, faults: FaultList) -> None:
        self._loader = loader
        self._faults = faults
        self._parser = OverridesParser.create(config_loader=loader)
        self.adds_groups = False  # whether the recipe starts from none, so that one is chosen by adding it

    def parse(self, lines: Sequence[str]) -> list[Override]:
        """Parses overrides and returns the good ones."""
        good: list[Override] = []
        for line in lines:
            try:
                [override] = self._parser.parse_overrides([line])
            except (HydraException, ValueError, RecursionError) as error:
                self._faults.add_typed(show(line), self._explain_syntax(line, error))
                continue
            try:
                values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [override.value()]
            except (HydraException, ValueError) as error:
                self._faults.add_typed(override.key_or_group, f"received {override.get_value_string()}; {error}")
                continue
            if not values:
                received = override.get_value_string()
                self._faults.add_typed(override.key_or_group, f"received {received}, which holds no value")
            elif not override.key_or_group or override.package is not None:
                self._faults.add_typed(line, "expected KEY=VALUE, where the key is a dotted name such as model.epochs")
            elif message := self._check_group(override, values):
                self._faults.add_typed(override.key_or_group, message)
            else:
                good.append(override)
        return good

    def is_group(self, override: Override) -> bool:
        """Whether an override chooses options of a group."""
        is_value = isinstance(override.value(), dict)
        return not is_value and self._loader.repository.group_exists(override.key_or_group)

    def prefix(self, overrides: Sequence[Override], chosen: Sequence[bool], sign: str) -> list[Override]:
        """Writes a sign before some of them, such as the `+` that adds."""
        return [
            self._parser.parse_override(f"{sign}{each.input_line}") if is_chosen else each
            for each, is_chosen in zip(overrides, chosen, strict=True)
        ]

    def _explain_syntax(self, line: str, error: Exception) -> str:
        key, equals, value = line.partition("=")
        if not equals:
            return f"expected KEY=VALUE{self._suggest_override(line)}"
        quoted = f"{key}={quote(value)}"
        try:
            self._parser.parse_override(quoted)
        except (HydraException, ValueError):
            return "expected KEY=VALUE, where the key is a dotted name such as model.epochs"
        if " while evaluating " in str(error) and "Unknown function" not in str(error):
            return f"the value cannot be read: {str(error).splitlines()[1]}"
        return f"the value needs quotes: {shlex.quote(quoted)}"

    def _suggest_override(self, word: str) -> str:
        """Gives what was probably meant by a word without a value: a recipe, an option or a key."""
        meant = {name: f"{name}=" for name in read_keys(JobConfig)}
        for group in self._loader.list_groups(""):
            if group != "hydra":
                meant |= {option: f"{group}={option}" for option in self._loader.get_group_options(group)}
        meant |= {name: f"-cn {name}" for name in self._loader.get_group_options("", ObjectType.CONFIG)}
        near = [word] if word in meant else get_close_matches(word, meant, n=1)
        return f"; did you mean {meant[near[0]]}?" if near else ""

    def _check_group(self, override: Override, values: Sequence[object]) -> str | None:
        """Says what is wrong with the choice of a group option, if it is one and anything is."""
        if not self.is_group(override):
            group = override.key_or_group.replace(".", "/")
            is_meant = override.is_hydra_override() and isinstance(override.value(), str | QuotedString)
            if is_meant and self._loader.repository.group_exists(group):
                return f"a group is chosen with a slash: {group}={override.get_value_string()}"
            return None
        options = self._loader.get_group_options(override.key_or_group)
        is_ours = override.key_or_group in read_keys(JobConfig)
        if override.is_delete():
            return f"cannot be removed; choose one of: {', '.join(options)}" if is_ours else None
        if override.is_force_add() or (override.is_add() and is_ours and not self.adds_groups):
            typed = (override.input_line or "").lstrip("+")
            return f"a group is chosen without +: {typed}"
        for value in values:
            names = value if isinstance(value, list) and (value or not is_ours) else [value]
            for name in map(_unquote, names):
                if not isinstance(name, str) or name.removesuffix(".yaml") not in options:
                    if override.key_or_group.startswith("hydra/") and name in PLUGINS.values():
                        return word_extra(name)
                    is_file = override.key_or_group == "model" and isinstance(name, str) and os.path.exists(name)
                    remedy = f"; did you mean {shlex.join(['exporter', name])}?" if is_file else ""
                    return explain_choice(name, options) + remedy
        return None


def take_first(override: Override) -> str:
    """Writes an override with the first of its values."""
    if not override.is_sweep_override():
        return override.input_line or ""
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    value: Any = override.value()
    return f"{override.get_key_element()}={value.start}"


def word_extra(name: str) -> str:
    """Says how to install the plugin that comes with an extra."""
    return f"needs a package that is not installed: pip install 'keras-exporter[{name}]'"


def quote(value: str) -> str:
    """Writes text as Hydra's grammar takes it, whatever it holds; interpolations stay what they are."""
    return QuotedString(value, Quote.double).with_quotes()


def _unquote(value: object) -> Any:
    return value.text if isinstance(value, QuotedString) else value
