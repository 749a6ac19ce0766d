"""Finds every fault of a recipe and its overrides, before TensorFlow is imported and before any job runs.

Hydra stops at the first fault. So each override is parsed and applied by itself here, and what they compose to is read
into the classes of `config.py`, which names all that is left.
"""

import copy
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from exporter.cli import interpolations
from exporter.config import ExportConfig, JobConfig, Origin, read_keys
from exporter.config.checking import (
    BROKEN,
    convert,
    convert_value,
    explain_choice,
    explain_unknown,
    join,
    locate,
    suggest,
    without_none,
)
from exporter.errors import Fault, UsageError
from exporter.exporting import references
from exporter.exporting.destinations.choosing import find_target
from exporter.exporting.limits import check_limits
from exporter.text.hiding import hide, hide_values, hide_variable
from exporter.text.showing import shorten, show

Config = TypeVar("Config", bound=ExportConfig)

# The plugins that come with an extra of the same name, by the package that holds them.
_PLUGINS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_ray_launcher": "ray",
    "hydra_submitit_launcher": "submitit",
    "hydra_optuna_sweeper": "optuna",
}

_LONGEST_MESSAGE = 600  # characters; what was received may be a whole file

# What Hydra and OmegaConf raise for a mistake in YAML or in an override: not all of it is of their own classes.
_MISTAKES = (
    *(HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, UserWarning, OSError),
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Job:
    """One export of a run or a sweep.

    Attributes:
        overrides: The overrides that it is composed with, apart from Hydra's own.
        config: What it composes to.
        directory: Its own one, for its log; a run decides on it only when it begins.
    """

    overrides: tuple[str, ...]
    config: JobConfig
    directory: str


def read_config(composed: DictConfig) -> tuple[JobConfig | None, list[Fault]]:
    """Turns a composed config into plain data: OmegaConf ends here.

    Args:
        composed: What Hydra composed, with or without its own `hydra` node.

    Returns:
        The config, or None when there is any fault, and the faults.
    """
    faults: list[Fault] = []
    written: dict[str, Any] = {}
    composed = interpolations.leave_hydra_out(composed)
    names = [name for name in composed if name != "hydra"]
    with interpolations.bounded() as budget, interpolations.watched() as watch:
        reader = _Reader(faults, written, watch, budget)
        values = {str(name): reader.read(composed, name, str(name), ()) for name in names}
    if "model" in values:
        values["model"], model_faults = references.check_model(values["model"])
        faults.extend(model_faults)
    config, other_faults = convert_values(values, JobConfig)
    faults.extend(other_faults)
    if config is not None:
        config.origin = Origin(directory=_find_recipes(), written=written)
    return (None if faults else config), faults


def _find_recipes() -> str:
    """Returns the directory of the user's own recipes: --config-dir, or the working directory."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    own = [source.path for source in sources if source.provider == "command-line"]
    return str(own[0]) if own else os.getcwd()


def convert_values(values: Mapping[str, Any], schema: type[Config]) -> tuple[Config | None, list[Fault]]:
    """Fills a config class from plain data and checks all of it but the model.

    Args:
        values: By key, as YAML gives them; `BROKEN` where a fault is already known.
        schema: The class.

    Returns:
        The config, or None when there is any fault, and the faults.
    """
    config, faults = convert(values, schema)
    if config is not None:
        faults = check_limits(config)
    faults.extend(references.check_steps(values.get("signatures")))
    if config is not None:
        faults.extend(references.check_file("verify.data", config.verify.data))
    return (None if faults else config), faults


class Preflight:
    """The check of one recipe with its overrides."""

    def __init__(self, loader: ConfigLoaderImpl, recipe: str, place: str) -> None:
        """Prepares the check.

        Args:
            loader: Finds recipes and group options.
            recipe: The name of the primary config.
            place: Where the overrides are from, such as `the command line`.
        """
        self._loader = loader
        self._recipe = recipe
        self._place = place
        self._parser = OverridesParser.create(config_loader=loader)
        self._given: list[Override] = []
        self._bases: dict[tuple[str, ...], DictConfig | None] = {}
        self._faults: dict[Fault, None] = {}  # in order, and each once: the jobs of a sweep share most of theirs
        self.sweep_directory: str | None = None  # of a sweep that was checked
        self.is_search = False  # whether the jobs of that sweep are chosen while it runs

    def check(self, overrides: Sequence[str], multirun: bool = False) -> list[Job]:
        """Composes every job and checks it.

        Args:
            overrides: As they were typed.
            multirun: Whether a sweep is asked for; a recipe can ask for it too.

        Returns:
            The jobs: one, unless it is a sweep.

        Raises:
            UsageError: With every fault.
        """
        self._given = self._parse(overrides)
        self._check_recipe_exists()
        shared = [override for override in self._given if not override.is_sweep_override()]
        base = self._compose([each for each in shared if each.is_hydra_override() or self._is_group(each)])
        if base is not None and "model" not in base:
            remedy = "begin its file with the line `defaults: [config, _self_]`"
            self._add(self._recipe, f"does not start from the primary config; {remedy}", self._name_recipe())
            base = None
        if base is None:
            raise UsageError(list(self._faults))
        if not self._has_its_plugins(base):
            raise UsageError(list(self._faults))
        if multirun or self._read_setting(base, "hydra.mode") == RunMode.MULTIRUN:
            jobs = self._check_sweep(base)
        else:
            self._refuse_sweep_values()
            jobs = [self._check_job(shared)]
            if jobs[0] is not None and jobs[0].config.resume:
                self._add_at_its_place(Fault("resume", "received true; only a sweep is resumed: add -m"))
        if self._faults:
            raise UsageError(list(self._faults))
        return [job for job in jobs if job is not None]

    def _add(self, path: str, message: str, place: str = "") -> None:
        self._faults[Fault(path, shorten(message, _LONGEST_MESSAGE), place)] = None

    def _add_at_its_place(self, fault: Fault) -> None:
        """Adds a fault of the composed config, with the place that its path was written at."""
        file = self._find_recipe_file()
        if any(_is_related(fault.path, override.key_or_group) for override in self._given):
            self._add(fault.path, fault.message, self._place)
        elif file is not None and (number := _find_line(file, fault.path)) is not None:
            self._add(fault.path, f"{fault.message} (line {number})", _relate(file))
        else:
            # A value contradicts another one of its group, which was typed.
            groups = {override.key_or_group.partition(".")[0] for override in self._given}
            self._add(fault.path, fault.message, self._place if fault.path.partition(".")[0] in groups else "")

    # ---- overrides, each by itself

    def _parse(self, lines: Sequence[str]) -> list[Override]:
        """Parses overrides and keeps the good ones."""
        good: list[Override] = []
        for line in lines:
            try:
                [override] = self._parser.parse_overrides([line])
            except (HydraException, ValueError, RecursionError) as error:
                self._add(show(line), self._explain_syntax(line, error), self._place)
                continue
            try:
                values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [override.value()]
            except (HydraException, ValueError) as error:
                self._add(override.key_or_group, f"received {override.get_value_string()}; {error}", self._place)
                continue
            if not values:
                received = override.get_value_string()
                self._add(override.key_or_group, f"received {received}, which holds no value", self._place)
            elif not override.key_or_group or override.package is not None:
                self._add(line, "expected KEY=VALUE, where the key is a dotted name such as model.epochs", self._place)
            elif message := self._check_group(override, values):
                self._add(override.key_or_group, message, self._place)
            else:
                good.append(override)
        return good

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
        if word in self._loader.get_group_options("", ObjectType.CONFIG):
            return f"; did you mean -cn {word}?"
        for group in self._loader.list_groups(""):
            if group != "hydra" and word in self._loader.get_group_options(group):
                return f"; did you mean {group}={word}?"
        return suggest(word, [f"{name}=" for name in read_keys(JobConfig)])

    def _is_group(self, override: Override) -> bool:
        is_value = isinstance(override.value(), dict)
        return not is_value and self._loader.repository.group_exists(override.key_or_group)

    def _check_group(self, override: Override, values: list[Any]) -> str | None:
        """Says what is wrong with the choice of a group option, if it is one and anything is."""
        if not self._is_group(override):
            group = override.key_or_group.replace(".", "/")
            is_meant = override.is_hydra_override() and isinstance(override.value(), str | QuotedString)
            if is_meant and self._loader.repository.group_exists(group):
                return f"a group is chosen with a slash: {group}={override.get_value_string()}"
            return None
        options = self._loader.get_group_options(override.key_or_group)
        is_ours = override.key_or_group in read_keys(JobConfig)
        if override.is_delete():
            return f"cannot be removed; choose one of: {', '.join(options)}" if is_ours else None
        if override.is_force_add() or (override.is_add() and is_ours):
            typed = (override.input_line or "").lstrip("+")
            return f"a group is chosen without +: {typed}"
        for value in values:
            names = value if isinstance(value, list) and (value or not is_ours) else [value]
            for name in map(_unquote, names):
                if not isinstance(name, str) or name.removesuffix(".yaml") not in options:
                    is_extra = override.key_or_group.startswith("hydra/") and name in _PLUGINS.values()
                    return _word_extra(name) if is_extra else explain_choice(name, options)
        return None

    def _has_its_plugins(self, base: DictConfig) -> bool:
        """Whether the launcher and the sweeper are installed; adds what is to be installed."""
        count = len(self._faults)
        for kind in ("launcher", "sweeper"):
            target = self._read_setting(base, f"hydra.{kind}._target_")
            package = str(target).split(".")[1] if str(target).startswith("hydra_plugins.") else None
            if package in _PLUGINS and not _is_installed(package):
                self._add(f"hydra/{kind}", _word_extra(_PLUGINS[package]), self._place)
        return len(self._faults) == count

    def _refuse_sweep_values(self) -> None:
        for override in self._given:
            if override.is_sweep_override():
                key, value = override.key_or_group, override.get_value_string()
                hint = without_none(locate(key, JobConfig)[0])
                remedy = "; to run one job for each, add -m"
                if get_origin(hint) is list or hint is Any:
                    remedy += f"; a list is written {key}=[{value}]"
                elif hint is str:
                    remedy += "; text with a comma is written " + shlex.quote(f"{key}={quote(value)}")
                self._add(key, f"received {value}; a single run takes one value{remedy}", self._place)

    # ---- composing

    def _check_recipe_exists(self) -> None:
        with suppress(OSError):  # a name that is too long for any file
            if self._loader.repository.config_exists(self._recipe):
                return
        known = [name for name in self._loader.get_group_options("", ObjectType.CONFIG) if not name.startswith("_")]
        here = Path(ConfigSource._normalize_file_name(self._recipe))
        remedy = suggest(self._recipe, known)
        if os.path.isfile(here):
            remedy = f"; {here} is in this directory: add --config-dir ."
        self._add(show(self._recipe), f"no recipe of this name; allowed: {', '.join(known)}{remedy}", self._place)
        raise UsageError(list(self._faults))

    def _compose(self, overrides: Sequence[Override]) -> DictConfig | None:
        """Composes a config with Hydra's node; adds what is wrong; None when there is nothing to go on with."""
        choices = [each for each in overrides if self._is_group(each) or each.key_or_group == "hydra.searchpath"]
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
            if Path(missing).name in _PLUGINS.values() and missing.startswith("hydra/"):
                known = f"; it {_word_extra(Path(missing).name)}"
            self._add(missing, f"a defaults list names it, and there is no such file{known}", self._name_recipe())
        except yaml.YAMLError as error:
            self._add_yaml_error(error)
        except UnicodeDecodeError:
            self._add(self._recipe, "the file is not text in UTF-8", self._name_recipe())
        except UserWarning as warning:
            # Hydra's only warning here is that the recipe's own keys have no place among its defaults.
            remedy = "put _self_ at the end of its defaults list" if "_self_" in str(warning) else str(warning)
            self._add(self._recipe, remedy, self._name_recipe())
        except _MISTAKES as error:
            if lines and self._compose_choices(()) is not None:
                self._add(" ".join(lines), _first_line(error, count=2), self._place)
            else:
                self._add(self._recipe, _first_line(error), self._name_recipe())
        return None

    def _add_yaml_error(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None)
        if mark is None or mark.name is None:
            self._add(self._recipe, f"not valid YAML: {_first_line(error)}", self._name_recipe())
            return
        file = Path(mark.name)
        written = file.read_text(encoding="utf-8").splitlines()
        shown = written[mark.line].strip() if mark.line < len(written) else "the end of the file"
        problem = getattr(error, "problem", None) or "cannot be read"
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        self._add(where, f"not valid YAML: {problem}; the line is: {shown}", _relate(file))

    def _apply(self, override: Override, composed: DictConfig) -> None:
        path = override.key_or_group
        if not override.is_hydra_override():
            hint, free, allowed = locate(path, JobConfig)
            message = None
            if hint is None:
                message = explain_unknown(path.rpartition(".")[2], allowed)
            elif override.is_delete() and not free:
                message = f"cannot be removed; give it a value: {path}=VALUE"
            if message is not None:
                self._add_at_its_place(Fault(path, message))
                return
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], composed)
        except _MISTAKES as error:
            message = self._explain_refusal(override, composed, error)
            self._add_at_its_place(Fault(path, message))

    def _explain_refusal(self, override: Override, composed: DictConfig, error: Exception) -> str:
        """Says why Hydra did not apply an override."""
        path = override.key_or_group
        line = override.input_line or ""
        if override.is_hydra_override():
            return _first_line(error.__cause__ or error)
        if override.is_add():
            return f"is in the config already; write {shlex.quote(line.lstrip('+'))}"
        parent, _, name = path.rpartition(".")
        source = references.find_source(_select(composed, parent)) if parent == "model" else None
        if source is not None:
            return explain_unknown(name, references.name_arguments(source))
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
        return _first_line(error.__cause__ or error)

    # ---- jobs

    def _check_job(self, overrides: Sequence[Override], number: int | None = None) -> Job | None:
        composed = self._compose(overrides)
        if composed is None:
            return None
        own = tuple(each.input_line or "" for each in overrides if not each.is_hydra_override())
        config = self._read_as_in_the_job(composed, number)
        return None if config is None else Job(own, config, str(composed.hydra.runtime.output_dir))

    def _read_as_in_the_job(self, composed: DictConfig, number: int | None) -> JobConfig | None:
        """Reads a config where `${hydra:...}` gives what it will give in the job."""
        hydra_config = HydraConfig.instance()
        previous = hydra_config.cfg
        hydra_config.set_config(composed)
        with read_write(composed.hydra), open_dict(composed.hydra):
            if number is not None:
                composed.hydra.job.num, composed.hydra.job.id = number, str(number)
            composed.hydra.runtime.output_dir = self._read_run_directory(composed, is_sweep=number is not None)
        hydra_config.set_config(composed)
        try:
            config, faults = read_config(composed)
        finally:
            hydra_config.cfg = previous
        for fault in faults:
            self._add_at_its_place(fault)
        return config

    def _read_run_directory(self, composed: DictConfig, is_sweep: bool) -> str:
        paths = ("hydra.sweep.dir", "hydra.sweep.subdir") if is_sweep else ("hydra.run.dir",)
        return os.path.abspath(os.path.join(*(str(self._read_setting(composed, path)) for path in paths)))

    def _read_setting(self, composed: DictConfig, path: str) -> Any:
        """Gives a setting of Hydra's own, or None after adding what is wrong with it."""
        try:
            setting = OmegaConf.select(composed, path, throw_on_missing=False)
            return OmegaConf.to_container(setting, resolve=True) if OmegaConf.is_config(setting) else setting
        except OmegaConfBaseException as error:
            self._add_at_its_place(Fault(path, f"cannot be resolved: {_first_line(error)}"))
            return None

    def _check_sweep(self, base: DictConfig) -> list[Job | None]:
        own = [each for each in self._given if not each.is_hydra_override()]
        hydra_overrides = [each for each in self._given if each.is_hydra_override()]
        for override in hydra_overrides:
            if override.is_sweep_override():
                self._add(override.key_or_group, "the settings of Hydra itself cannot be swept", self._place)
        # From here on every job agrees on it, though the default names the moment at which it is read.
        self.sweep_directory = os.path.abspath(str(self._read_setting(base, "hydra.sweep.dir")))
        pinned = self._parse([f"hydra.sweep.dir={quote(self.sweep_directory)}"])
        if (
            self._read_setting(base, "hydra.sweeper._target_")
            != f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
        ):
            # Another sweeper chooses the values while it runs: what can be known now is whether the first ones do.
            self.is_search = True
            params = self._read_setting(base, "hydra.sweeper.params") or {}
            first = [*self._parse([f"{name}={value}" for name, value in params.items()]), *self._given]
            return [self._check_job([*self._parse(list(map(_take_first, first))), *pinned], 0)]
        values = self._read_setting(base, "hydra.sweeper.params") or {}
        parameters = self._parse([f"{name}={value}" for name, value in values.items()])
        swept = [*parameters, *own]
        for override in swept:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                message = f"received {override.get_value_string()}; expected a list of values, such as 1,2"
                self._add_at_its_place(Fault(override.key_or_group, message))
                return []
        [batch] = BasicSweeper.split_arguments(swept, max_batch_size=None)
        settings = [*(each for each in hydra_overrides if not each.is_sweep_override()), *pinned]
        jobs = [self._check_job([*self._parse(lines), *settings], number) for number, lines in enumerate(batch)]
        sweeps = [each for each in swept if each.is_sweep_override()]
        if not {each.key_or_group for each in sweeps} & {fault.path for fault in self._faults}:
            self._check_targets_differ(jobs, sweeps)
        return jobs

    def _check_targets_differ(self, jobs: Sequence[Job | None], swept: Sequence[Override]) -> None:
        writers: dict[str, tuple[int, Job]] = {}
        for number, job in enumerate(jobs):
            target = None if job is None else find_target(job.config)
            if job is None or target is None:
                continue
            first_number, first = writers.setdefault(os.path.realpath(target), (number, job))
            if first is not job:
                both = f"job {first_number} ({' '.join(first.overrides)}) and job {number} ({' '.join(job.overrides)})"
                remedy = shlex.quote(f"filepath={self._suggest_filepath(swept)}")
                message = f"{both} would both write {target}; give each its own, such as {remedy}"
                is_typed = any(each.is_sweep_override() for each in self._given)
                self._add("filepath", message, self._place if is_typed else self._name_recipe())
                return

    def _suggest_filepath(self, swept: Sequence[Override]) -> str:
        parts = [
            f"${{hydra:runtime.choices.{each.key_or_group}}}" if self._is_group(each) else f"${{{each.key_or_group}}}"
            for each in swept
            if each.key_or_group != "filepath"
        ]
        return f"exports/{'-'.join(parts) or '${hydra:job.num}'}${{exporter.suffix:${{save_format}}}}"

    # ---- the recipe's file

    def _find_recipe_file(self) -> Path | None:
        name = ConfigSource._normalize_file_name(self._recipe)
        for source in self._loader.get_sources():
            if source.scheme() == "file" and source.is_config(self._recipe):
                return Path(source.path) / name
        return None

    def _name_recipe(self) -> str:
        file = self._find_recipe_file()
        return self._recipe if file is None else _relate(file)


def _take_first(override: Override) -> str:
    """Writes an override with the first of its values."""
    if not override.is_sweep_override():
        return override.input_line or ""
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    value: Any = override.value()
    return f"{override.get_key_element()}={value.start}"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:
        return False


def _word_extra(name: str) -> str:
    return f"needs a package that is not installed: pip install 'keras-exporter[{name}]'"


class _Reader:
    """Reads the values of a composed config one by one."""

    def __init__(
        self, faults: list[Fault], written: dict[str, Any], watch: list[str], budget: interpolations.Budget
    ) -> None:
        """Prepares for one config.

        Args:
            faults: Is extended by what is wrong.
            written: Is extended by what stands where a value depends on the environment.
            watch: The variables of the environment that were read so far.
            budget: What is left for interpolations.
        """
        self._faults = faults
        self._written = written
        self._watch = watch
        self._budget = budget

    def read(self, node: DictConfig | ListConfig, key: Any, path: str, above: tuple[int, ...]) -> Any:
        """Reads one value and all that it holds.

        Args:
            node: Holds it.
            key: Its name or number there.
            path: Its dotted path.
            above: The identities of the mappings and lists that it is read in.
        """
        count = len(self._watch)
        value = self._resolve(node, key, path)
        if id(value) in above:
            self._faults.append(Fault(path, f"received {show(_get_written(node, key))}; it refers to what it is in"))
            return BROKEN
        if len(self._watch) > count:
            self._written[path] = _get_written(node, key)
        if OmegaConf.is_config(value):
            try:
                value = self._read_inside(value, path, (*above, id(value)))
            except RecursionError:
                self._faults.append(Fault(path, "is nested too deeply"))
                return BROKEN
        if len(self._watch) > count and path in self._written:
            hide_values(value, self._written[path])
        return value

    def _read_inside(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        if isinstance(value, DictConfig):
            return {str(name): self.read(value, name, join(path, name), above) for name in value}
        return [self.read(value, index, f"{path}[{index}]", above) for index in range(len(value))]

    def _resolve(self, node: DictConfig | ListConfig, key: Any, path: str) -> Any:
        was_spent = self._budget.is_spent
        try:
            self._budget.count_value()
            return node[key]
        except MissingMandatoryValue:
            self._faults.append(Fault(path, f"needs a value: {path}=VALUE"))
        except (OmegaConfBaseException, RecursionError) as error:
            for name in self._watch:
                hide_variable(name)
            if not was_spent:  # it is the same for every value that comes after
                reason = _first_line(error)
                if isinstance(error, RecursionError) or reason.startswith(RecursionError.__name__):
                    self._budget.exhaust()
                    reason = "it refers to too many others, one through the other"
                received = show(_get_written(node, key))
                self._faults.append(Fault(path, f"received {received}; it cannot be resolved: {reason}"))
        return BROKEN


def _get_written(node: DictConfig | ListConfig, key: Any) -> Any:
    unresolved: Any = OmegaConf.to_container(node, resolve=False)
    return unresolved[key]


def _select(composed: DictConfig, path: str) -> Any:
    """Gives a part of a config as plain data, with interpolations as they are written."""
    node = OmegaConf.select(composed, path) if path else composed
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def _is_related(path: str, other: str) -> bool:
    """Whether one of two dotted paths is the other or lies inside it."""
    path = path.partition("[")[0]
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def _find_line(file: Path, path: str) -> int | None:
    """Finds the line of a recipe that sets a dotted path, or that sweeps over it."""
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    for names in (path.partition("[")[0].split("."), ["hydra", "sweeper", "params", path]):
        node, mark = root, None
        for name in names:
            entries = node.value if isinstance(node, yaml.MappingNode) else []
            key, node = next(((key, value) for key, value in entries if key.value == name), (None, None))
            mark = None if key is None else key.start_mark
        if mark is not None:
            return int(mark.line) + 1
    return None


def _relate(file: Path) -> str:
    """Writes a path relative to the caller's directory where it is inside it."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def quote(value: str) -> str:
    """Writes text as Hydra's grammar takes it, whatever it holds."""
    return QuotedString(value, Quote.double).with_quotes()


def _unquote(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _first_line(error: BaseException, count: int = 1) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return hide(" ".join(lines[:count])) or type(error).__name__
