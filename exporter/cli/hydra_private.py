"""What we use of the private code of Hydra and OmegaConf, imported here and nowhere else.

Tried with Hydra 1.3.8 and OmegaConf 2.3.1. What is imported has no public way to the same, so a name that is gone is an
ImportError at once. `tests/unit/cli/test_hydra_private.py` fails when a name or a signature changes.

- `BasicSweeper`: how a sweep is split into jobs, so that all of them can be checked before the first one runs.
- `ConfigLoaderImpl`, `create_config_search_path`: compose a recipe; the public `hydra.compose` needs an application
  that was begun, and there is one in a process.
- `get_args_parser`: the flags that Hydra takes.
- `Singleton`, `SourcesRegistry`, OmegaConf's `BaseContainer`: what they keep for the whole process.
- OmegaConf's `Container`: where every reference and every call of a resolver passes.
"""

import argparse
import copy
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import structured_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig
from omegaconf.base import Container, Node
from omegaconf.basecontainer import BaseContainer

from exporter.processes.replacing import replaced

__all__ = [
    "ConfigLoaderImpl",
    "apply_override",
    "create_config_search_path",
    "get_args_parser",
    "isolated",
    "list_flags",
    "name_basic_sweeper",
    "name_file",
    "read_scalar",
    "resolution_replaced",
    "resolvers_kept",
    "split_sweep",
    "write_flags",
]

Hook = Callable[..., Any]

# Of the blocks of `isolated` before: plugins are looked for once, and what they store is stored once.
_found: dict[type, Any] = {}
_stored: dict[str, Any] = {}


class StructuredConfigSource(structured_config_source.StructuredConfigSource):
    """The source of stored configs, which is its own copy: it holds the store alone, whose loads are copies.

    Hydra copies the sources of configs, and with this one the whole store, whenever it lists the options of a group:
    that is a third of the time of `--help`. The store itself is still copied for the processes of a launcher, which
    put into their copy what a plugin stores. Hydra asks for the source of this name.
    """

    def __deepcopy__(self, copied: dict[int, Any]) -> "StructuredConfigSource":
        return self


@contextmanager
def isolated() -> Iterator[None]:
    """Gives the block a Hydra of its own, with the configs, plugins and resolvers that the process has so far.

    Whatever is registered, set or removed inside is gone afterwards, and Hydra's and OmegaConf's objects are the ones
    from before. What is stored inside is there again in the next block only: a module stores its configs when it is
    imported, which is once. Other threads see what is inside while it is open.
    """
    global _found, _stored
    instances, resolvers = Singleton._instances, BaseContainer._resolvers
    former = ConfigStore.instance().repo
    Singleton._instances = _copy_instances(instances)
    BaseContainer._resolvers = dict(resolvers)
    store = ConfigStore.instance()
    try:
        SourcesRegistry.instance().types["structured"] = StructuredConfigSource
        Plugins.instance()
        _found = _copy_plugins(Singleton._instances)
        yield
    finally:
        _stored = _merge(_stored, _subtract(store.repo, former))
        Singleton._instances, BaseContainer._resolvers = instances, resolvers


def _copy_instances(instances: dict[type, Any]) -> dict[type, Any]:
    """Copies what a recipe is composed with; an application and its config and version are left out."""
    store = copy.copy(ConfigStore.instance())
    store.repo = _merge(_stored, store.repo)
    return {ConfigStore: store, **_copy_plugins(instances if Plugins in instances else _found)}


def _copy_plugins(instances: dict[type, Any]) -> dict[type, Any]:
    """Copies the plugins and the kinds of sources that were found, if they were looked for."""
    if Plugins not in instances:
        return {}
    plugins, sources = copy.copy(instances[Plugins]), copy.copy(instances[SourcesRegistry])
    listed = {kind: [*found] for kind, found in plugins.plugin_type_to_subclass_list.items()}
    plugins.plugin_type_to_subclass_list = defaultdict(list, listed)
    plugins.class_name_to_class = dict(plugins.class_name_to_class)
    sources.types = dict(sources.types)
    return {Plugins: plugins, SourcesRegistry: sources}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges two trees of stored configs into a third one."""
    merged = {**below, **above}
    for name, entry in merged.items():
        if isinstance(entry, dict):
            others = below.get(name)
            merged[name] = _merge(others if isinstance(others, dict) else {}, entry)
    return merged


def _subtract(tree: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """Gives what a tree of stored configs has more than another one."""
    more = {}
    for name, entry in tree.items():
        others = former.get(name)
        if isinstance(entry, dict):
            more[name] = _subtract(entry, others if isinstance(others, dict) else {})
        elif entry is not others:
            more[name] = entry
    return more


@contextmanager
def resolvers_kept() -> Iterator[None]:
    """Puts OmegaConf's resolvers back as they were when the block ends."""
    resolvers = BaseContainer._resolvers
    BaseContainer._resolvers = dict(resolvers)
    try:
        yield
    finally:
        BaseContainer._resolvers = resolvers


@contextmanager
def resolution_replaced(*, refer: Hook | None = None, call: Hook | None = None) -> Iterator[None]:
    """Lets interpolations that this thread resolves inside the block pass through other functions.

    There is no public way in: the parser of the grammar is handed these two, and nothing else ends an expansion.

    Args:
        refer: Resolves a reference; it is given how that was done so far, the config, and the arguments.
        call: Calls a resolver, in the same way.
    """
    thread = threading.get_ident()

    def pass_through(hook: Hook) -> Callable[[Hook], Hook]:
        def make(former: Hook) -> Hook:
            def method(self: Container, *arguments: Any, **named: Any) -> Any:
                if threading.get_ident() != thread:
                    return former(self, *arguments, **named)
                return hook(former, self, *arguments, **named)

            return method

        return make

    with ExitStack() as stack:
        for name, hook in (("_resolve_node_interpolation", refer), ("_evaluate_custom_resolver", call)):
            if hook is not None:
                stack.enter_context(replaced(Container, name, pass_through(hook)))
        yield


def read_scalar(value: Any) -> Any:
    """Returns what a node of a config holds; what is no such node, itself."""
    return value._value() if isinstance(value, Node) and not isinstance(value, Container) else value


def apply_override(override: Override, composed: DictConfig) -> None:
    """Changes a config by one override, as Hydra does with all of them when it composes.

    Raises:
        Exception: Of any type: the override does not fit the config.
    """
    ConfigLoaderImpl._apply_overrides_to_config([override], composed)


def name_file(config: str) -> str:
    """Returns the file of a config, relative to the directory of its source."""
    return ConfigSource._normalize_file_name(config)


def list_flags(parser: argparse.ArgumentParser) -> list[str]:
    """Lists the flags of a command line."""
    return [name for action in parser._actions for name in action.option_strings]


def write_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> list[str]:
    """Writes the flags that were given as the words of a command line."""
    words = []
    for action in parser._actions:
        value = getattr(flags, action.dest, None)
        if action.option_strings and value not in (None, False):
            name = action.option_strings[0]
            words.append(name if value is True else f"{name}={value}")
    return words


def name_basic_sweeper() -> str:
    """Returns the `_target_` of the sweeper that runs all combinations of what it is given."""
    kind = _import_basic_sweeper()
    return f"{kind.__module__}.{kind.__qualname__}"


def split_sweep(overrides: list[Override]) -> list[list[str]]:
    """Returns the overrides of each job that this sweeper makes of those of a sweep."""
    [jobs] = _import_basic_sweeper().split_arguments(overrides, max_batch_size=None)
    return [list(job) for job in jobs]


def _import_basic_sweeper() -> Any:
    # Not above: its module stores a config when it is imported.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return BasicSweeper
