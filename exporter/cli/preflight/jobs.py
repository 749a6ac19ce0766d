"""The jobs that a recipe and its overrides ask for, and every fault of them."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, get_origin

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from exporter.cli.hydra_private import ConfigLoaderImpl, name_basic_sweeper, split_sweep
from exporter.cli.preflight.composition import Composer
from exporter.cli.preflight.faults import FaultList
from exporter.cli.preflight.overrides import PLUGINS, OverrideReader, quote, take_first, word_extra
from exporter.cli.preflight.reading import read_config
from exporter.config import JobConfig
from exporter.config.checking import locate, without_none
from exporter.errors import Fault, UsageError
from exporter.exporting.destinations.choosing import find_target


@dataclass(frozen=True, slots=True)
class Job:
    """One export of a run or a sweep.

    Attributes:
        overrides: The overrides that it is composed with, apart from Hydra's own.
        config: What it composes to.
        directory: Its own one, for its log; a run decides on it only when it begins.
        refusals: Why a job of a sweep will be a row with its reason; see `Fault.is_refusal`.
    """

    overrides: tuple[str, ...]
    config: JobConfig
    directory: str
    refusals: tuple[Fault, ...] = ()


class Preflight:
    """The check of one recipe with its overrides."""

    def __init__(self, loader: ConfigLoaderImpl, recipe: str, place: str) -> None:
        """Prepares the check.

        Args:
            loader: Finds recipes and group options.
            recipe: The name of the primary config.
            place: Where the overrides are from, such as `the command line`.
        """
        self._faults = FaultList(loader, recipe, place)
        self._overrides = OverrideReader(loader, self._faults)
        self._composer = Composer(loader, self._overrides, self._faults)
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
        self._overrides.adds_groups = not self._composer.has_defaults()
        self._faults.given = self._overrides.parse(overrides)
        self._composer.check_recipe_exists()
        self._faults.given = self._add_new_groups(self._faults.given)
        is_group = self._overrides.is_group
        base = self._composer.compose(
            [
                each
                for each in self._faults.given
                if not each.is_sweep_override() and (each.is_hydra_override() or is_group(each))
            ]
        )
        if base is not None and "model" not in base:
            remedy = "begin its file with the line `defaults: [config, _self_]`"
            self._faults.add_of_recipe(self._faults.recipe, f"does not start from the primary config; {remedy}")
            base = None
        if base is None or not self._has_its_plugins(base):
            raise UsageError(self._faults.listed)
        self._faults.given = self._add_new_keys(self._faults.given, base)
        if multirun or self._composer.read_setting(base, "hydra.mode") == RunMode.MULTIRUN:
            jobs = self._check_sweep(base)
        else:
            self._refuse_sweep_values()
            jobs = [self._check_job([each for each in self._faults.given if not each.is_sweep_override()])]
            if jobs[0] is not None and jobs[0].config.resume:
                self._faults.add_composed("resume", "received true; only a sweep is resumed: add -m")
        if self._faults.listed:
            raise UsageError(self._faults.listed)
        return [job for job in jobs if job is not None]

    @property
    def overrides(self) -> list[str]:
        """What was checked, as Hydra takes it: with a `+` where that is needed."""
        return [each.input_line or "" for each in self._faults.given]

    def _add_new_groups(self, given: Sequence[Override]) -> list[Override]:
        """Adds the groups that the recipe does not start from: one without the primary config has none."""
        is_new = [self._overrides.adds_groups and self._overrides.is_group(each) and _is_plain(each) for each in given]
        return self._overrides.prefix(given, is_new, "+")

    def _add_new_keys(self, given: Sequence[Override], base: DictConfig) -> list[Override]:
        """Adds the keys that the recipe leaves out, and arguments of the model's function that it does not give."""
        is_new = [_is_plain(each) and self._composer.lacks(base, each.key_or_group) for each in given]
        return self._overrides.prefix(given, is_new, "++")

    def _has_its_plugins(self, base: DictConfig) -> bool:
        """Whether the launcher and the sweeper are installed; adds what is to be installed."""
        count = len(self._faults.listed)
        for kind in ("launcher", "sweeper"):
            target = self._composer.read_setting(base, f"hydra.{kind}._target_")
            package = str(target).split(".")[1] if str(target).startswith("hydra_plugins.") else None
            if package in PLUGINS and not _is_installed(package):
                self._faults.add_typed(f"hydra/{kind}", word_extra(PLUGINS[package]))
        return len(self._faults.listed) == count

    def _refuse_sweep_values(self) -> None:
        for override in self._faults.given:
            if override.is_sweep_override():
                key, value = override.key_or_group, override.get_value_string()
                hint = without_none(locate(key, JobConfig)[0])
                remedy = "; to run one job for each, add -m"
                if get_origin(hint) is list or hint is Any:
                    remedy += f"; a list is written {key}=[{value}]"
                elif hint is str:
                    remedy += "; text with a comma is written " + shlex.quote(f"{key}={quote(value)}")
                self._faults.add_typed(key, f"received {value}; a single run takes one value{remedy}")

    def _check_job(self, overrides: Sequence[Override], number: int | None = None) -> Job | None:
        composed = self._composer.compose(overrides)
        if composed is None:
            return None
        own = tuple(each.input_line or "" for each in overrides if not each.is_hydra_override())
        config, faults = self._read_as_in_the_job(composed, number)
        is_row = config is not None and number is not None
        if not is_row:
            self._add_all(faults)
        if config is None or (faults and not is_row):
            return None
        return Job(own, config, str(composed.hydra.runtime.output_dir), tuple(faults))

    def _add_all(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._faults.add_composed(fault.path, fault.message)

    def _read_as_in_the_job(self, composed: DictConfig, number: int | None) -> tuple[JobConfig | None, list[Fault]]:
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
            return read_config(composed)
        finally:
            hydra_config.cfg = previous

    def _read_run_directory(self, composed: DictConfig, is_sweep: bool) -> str:
        paths = ("hydra.sweep.dir", "hydra.sweep.subdir") if is_sweep else ("hydra.run.dir",)
        return os.path.abspath(os.path.join(*(str(self._composer.read_setting(composed, path)) for path in paths)))

    def _check_sweep(self, base: DictConfig) -> list[Job | None]:
        own = [each for each in self._faults.given if not each.is_hydra_override()]
        hydra_overrides = [each for each in self._faults.given if each.is_hydra_override()]
        for override in hydra_overrides:
            if override.is_sweep_override():
                self._faults.add_typed(override.key_or_group, "the settings of Hydra itself cannot be swept")
        # From here on every job agrees on it, though the default names the moment at which it is read.
        self.sweep_directory = os.path.abspath(str(self._composer.read_setting(base, "hydra.sweep.dir")))
        pinned = self._overrides.parse([f"hydra.sweep.dir={quote(self.sweep_directory)}"])
        values = self._composer.read_setting(base, "hydra.sweeper.params") or {}
        parameters = self._overrides.parse([f"{name}={value}" for name, value in values.items()])
        if self._composer.read_setting(base, "hydra.sweeper._target_") != name_basic_sweeper():
            # Another sweeper chooses the values while it runs: what can be known now is whether the first ones do.
            self.is_search = True
            first = [take_first(each) for each in (*parameters, *self._faults.given)]
            job = self._check_job([*self._overrides.parse(first), *pinned], 0)
            if job is not None and job.config.objective is not None:
                self._check_direction(base)
            return [job]
        swept = [*parameters, *own]
        for override in swept:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                message = f"received {override.get_value_string()}; expected a list of values, such as 1,2"
                self._faults.add_composed(override.key_or_group, message)
                return []
        settings = [*(each for each in hydra_overrides if not each.is_sweep_override()), *pinned]
        parse = self._overrides.parse
        jobs = [self._check_job([*parse(lines), *settings], number) for number, lines in enumerate(split_sweep(swept))]
        self._refuse_if_none_is_left(jobs)
        sweeps = [each for each in swept if each.is_sweep_override()]
        if not {each.key_or_group for each in sweeps} & {fault.path for fault in self._faults.listed}:
            self._check_targets_differ(jobs, sweeps)
        return jobs

    def _check_direction(self, base: DictConfig) -> None:
        """Refuses a search for the largest: that would be a job that failed."""
        direction = self._composer.read_setting(base, "hydra.sweeper.direction")
        if str(getattr(direction, "name", direction)) == "maximize":
            message = "received maximize; of every objective the smallest is the best, also of accuracy; set minimize"
            self._faults.add_composed("hydra.sweeper.direction", message)

    def _refuse_if_none_is_left(self, jobs: Sequence[Job | None]) -> None:
        """Makes faults of the refusals, where every job is refused: such a sweep has nothing to do."""
        if jobs and all(job is not None and job.refusals for job in jobs):
            message = "no job of the sweep is left: each asks for what its format does not have"
            self._faults.add("sweep", message, self._faults.place)
            self._add_all([fault for job in jobs if job is not None for fault in job.refusals])

    def _check_targets_differ(self, jobs: Sequence[Job | None], swept: Sequence[Override]) -> None:
        writers: dict[str, tuple[int, Job]] = {}
        for number, job in enumerate(jobs):
            target = None if job is None or job.refusals else find_target(job.config)
            if job is None or target is None:
                continue
            first_number, first = writers.setdefault(os.path.realpath(target), (number, job))
            if first is not job:
                both = f"job {first_number} ({' '.join(first.overrides)}) and job {number} ({' '.join(job.overrides)})"
                remedy = shlex.quote(f"filepath={quote(self._suggest_filepath(swept))}")
                message = f"{both} would both write {target}; give each its own, such as {remedy}"
                is_typed = any(each.is_sweep_override() for each in self._faults.given)
                (self._faults.add_typed if is_typed else self._faults.add_of_recipe)("filepath", message)
                return

    def _suggest_filepath(self, swept: Sequence[Override]) -> str:
        keys = dict.fromkeys(
            f"hydra:runtime.choices.{each.key_or_group}" if self._overrides.is_group(each) else each.key_or_group
            for each in swept
            if each.key_or_group != "filepath"
        )
        parts = [f"${{{key}}}" for key in keys]
        return f"exports/{'-'.join(parts) or '${hydra:job.num}'}${{exporter.suffix:${{save_format}}}}"


def _is_plain(override: Override) -> bool:
    """Whether it gives a key or a group of ours a value, without saying itself that it adds or removes it."""
    return not (override.is_hydra_override() or override.is_add() or override.is_force_add() or override.is_delete())


def _is_installed(package: str) -> bool:
    try:
        return find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:
        return False
