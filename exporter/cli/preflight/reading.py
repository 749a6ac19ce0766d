"""A composed config as plain data: OmegaConf ends here."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from exporter.cli.preflight import interpolations
from exporter.cli.preflight.faults import word_error
from exporter.config import ExportConfig, JobConfig, Origin
from exporter.config.checking import BROKEN, convert, join
from exporter.errors import Fault
from exporter.exporting import references
from exporter.exporting.limits import check_limits
from exporter.text.hiding import hide_values, hide_variable
from exporter.text.showing import show

# The format that a path chooses is kept as it was: the same recipe must not choose another one where the path is new.
_CHOSEN = "${exporter.format:"

Config = TypeVar("Config", bound=ExportConfig)


def read_config(composed: DictConfig) -> tuple[JobConfig | None, list[Fault]]:
    """Turns a composed config into plain data.

    Args:
        composed: What Hydra composed, with or without its own `hydra` node.

    Returns:
        The config, and the faults: with any that is not a refusal, see `Fault`, None stands in place of the config.
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
    return _keep_if_sound(config, faults), faults


def _keep_if_sound(config: Config | None, faults: Sequence[Fault]) -> Config | None:
    """Returns a config of which every value is sound: a sweep tells of such a job by what it would have written."""
    return config if all(fault.is_refusal for fault in faults) else None


def _find_recipes() -> str:
    """Returns the directory of the user's own recipes: --config-dir, or the working directory."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    own = [source.path for source in sources if source.provider == "command-line"]
    return str(own[0]) if own else os.getcwd()


def convert_values(values: Mapping[str, object], schema: type[Config]) -> tuple[Config | None, list[Fault]]:
    """Fills a config class from plain data and checks all of it but the model.

    Args:
        values: By key, as YAML gives them; `BROKEN` where a fault is already known.
        schema: The class.

    Returns:
        The config, and the faults; see `read_config`.
    """
    config, faults = convert(values, schema)
    if config is not None:
        faults = check_limits(config)
    faults.extend(references.check_steps(values.get("signatures")))
    faults.extend(references.check_calls(values))
    if config is not None:
        faults.extend(references.check_file("verify.data", config.verify.data))
        faults.extend(references.check_writable(config.filepath))
    return _keep_if_sound(config, faults), faults


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

    def read(self, node: DictConfig | ListConfig, key: object, path: str, above: tuple[int, ...]) -> Any:
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
        if len(self._watch) > count and not str(_get_written(node, key)).startswith(_CHOSEN):
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
                reason = word_error(error)
                if isinstance(error, RecursionError) or reason.startswith(RecursionError.__name__):
                    self._budget.exhaust()
                    reason = "it refers to too many others, one through the other"
                received = show(_get_written(node, key))
                self._faults.append(Fault(path, f"received {received}; it cannot be resolved: {reason}"))
        return BROKEN


def _get_written(node: DictConfig | ListConfig, key: object) -> Any:
    unresolved: Any = OmegaConf.to_container(node, resolve=False)
    return unresolved[key]
