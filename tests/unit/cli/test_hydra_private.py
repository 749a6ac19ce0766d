"""The private names of Hydra and OmegaConf that we use are there, as we know them."""

import copy
import importlib
import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.base import Container, Node
from omegaconf.basecontainer import BaseContainer

from exporter.cli import composing, hydra_private
from exporter.cli.main import Job

SIGNATURES = {
    hydra_private.ConfigLoaderImpl: "(config_search_path: hydra.core.config_search_path.ConfigSearchPath) -> None",
    hydra_private.ConfigLoaderImpl.load_configuration: (
        "(self, config_name: Optional[str], overrides: List[str], run_mode: hydra.types.RunMode, from_shell: bool = "
        "True, validate_sweep_overrides: bool = True) -> omegaconf.dictconfig.DictConfig"
    ),
    hydra_private.ConfigLoaderImpl._apply_overrides_to_config: (
        "(overrides: List[hydra.core.override_parser.types.Override], cfg: omegaconf.dictconfig.DictConfig) -> None"
    ),
    hydra_private.create_config_search_path: (
        "(search_path_dir: Optional[str]) -> hydra.core.config_search_path.ConfigSearchPath"
    ),
    hydra_private.get_args_parser: "() -> argparse.ArgumentParser",
    ConfigSource._normalize_file_name: "(filename: str) -> str",
    Container._resolve_node_interpolation: ("(self, inter_key: str, memo: Optional[Set[int]]) -> 'Node'"),
    Container._evaluate_custom_resolver: (
        "(self, key: Any, node: omegaconf.base.Node, inter_type: str, inter_args: Tuple[Any, ...], inter_args_str: "
        "Tuple[str, ...]) -> Any"
    ),
    Node._value: "(self) -> Any",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_a_private_function_has_the_signature_that_we_know(function: type) -> None:
    assert str(inspect.signature(function)) == SIGNATURES[function]


def test_what_is_kept_for_the_process_is_where_we_put_it_back() -> None:
    kept: dict[type, Any] = Singleton._instances
    assert kept[ConfigStore] is ConfigStore.instance()
    OmegaConf.register_new_resolver("exporter_test", str)
    assert "exporter_test" in BaseContainer._resolvers
    OmegaConf.clear_resolver("exporter_test")


def test_every_object_that_hydra_keeps_is_copied_or_begins_anew() -> None:
    """When this fails, Hydra keeps something more: look whether `isolated` must copy it."""
    with composing.own_hydra():
        HydraConfig.instance(), GlobalHydra.instance()
        names = {kind.__name__ for kind in Singleton._instances}
        assert names == {"ConfigStore", "GlobalHydra", "HydraConfig", "Plugins", "SourcesRegistry", "VersionBase"}


def test_the_basic_sweeper_splits_overrides_into_jobs() -> None:
    overrides = OverridesParser.create().parse_overrides(["a=1,2", "b=3"])
    assert hydra_private.split_sweep(overrides) == [["a=1", "b=3"], ["a=2", "b=3"]]
    with composing.own_hydra():
        composed = composing.open_loader(None).load_configuration("config", [], RunMode.RUN)
    assert composed.hydra.sweeper._target_ == hydra_private.name_basic_sweeper()


def test_the_flags_are_those_of_hydra() -> None:
    assert {"--help", "-h", "--multirun", "-m", "--cfg"} <= set(
        hydra_private.list_flags(hydra_private.get_args_parser())
    )


@pytest.mark.parametrize("name", ["digits", "digits.yaml"])
def test_a_config_has_a_file(name: str) -> None:
    assert hydra_private.name_file(name) == "digits.yaml"


def test_listing_groups_copies_no_stored_config_and_composing_changes_none() -> None:
    """When this fails, look how Hydra's sources hold its store: `--help` takes a third longer if they copy it."""
    with composing.own_hydra():
        store = ConfigStore.instance()
        loader = composing.open_loader(None)
        _, copied = loader._parse_overrides_and_create_caching_repo(None, [])
        stores = [each.store for each in copied.get_sources() if isinstance(each, hydra_private.StructuredConfigSource)]
        assert [found is store for found in stores] == [True]
        before = str(store.load("hydra/config.yaml").node)
        composed = loader.load_configuration("config", ["hydra.job.name=another"], RunMode.RUN)
        composed.hydra.sweeper.params = {"seed": "1,2"}
        assert composed.hydra.job.name == "another"
        assert str(store.load("hydra/config.yaml").node) == before


@pytest.fixture
def registered() -> Iterator[None]:
    ConfigStore.instance().store(name="exporter_test", node={"seed": 7}, group="exporter_test")
    yield
    del ConfigStore.instance().repo["exporter_test"]


@pytest.mark.usefixtures("registered")
def test_a_block_has_what_the_process_has_and_leaves_nothing_behind() -> None:
    outside = Singleton._instances, BaseContainer._resolvers
    with hydra_private.isolated():
        assert ConfigStore.instance().load("exporter_test/exporter_test.yaml").node.seed == 7
        del ConfigStore.instance().repo["exporter_test"]
        Plugins.instance().register(composing.RecipesSearchPath)
        OmegaConf.clear_resolvers()
    assert (Singleton._instances, BaseContainer._resolvers) == outside
    assert ConfigStore.instance().load("exporter_test/exporter_test.yaml").node.seed == 7
    with hydra_private.isolated():
        assert composing.RecipesSearchPath not in Plugins.instance().discover()
        assert OmegaConf.has_resolver("oc.env")


def test_what_a_module_stores_when_it_is_imported_is_there_in_the_next_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from hydra.core.config_store import ConfigStore\n"
    source += "ConfigStore.instance().store(name='mine', group='verify', node={'mode': 'none'})\n"
    (tmp_path / "exporter_test_configs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with composing.own_hydra():
            importlib.import_module("exporter_test_configs")
            composed = composing.open_loader(None).load_configuration("config", ["verify=mine"], RunMode.RUN)
        assert composed.verify.mode == "none"
        assert "verify" not in ConfigStore.instance().repo


def test_a_plugin_and_what_it_stored_are_there_in_every_block() -> None:
    for _ in range(2):
        with hydra_private.isolated():
            assert "basic.yaml" in ConfigStore.instance().repo["hydra"]["launcher"]
            assert "BasicLauncher" in {kind.__name__ for kind in Plugins.instance().discover()}


def test_threads_that_compose_at_one_time_get_their_own_recipe_and_leave_nothing_behind() -> None:
    outside: tuple[Any, ...] = (Singleton._instances, BaseContainer._resolvers)
    methods = dict(vars(Container))
    with ThreadPoolExecutor(4) as pool:
        seeds = [
            config.seed for config in pool.map(lambda seed: composing.compose("config", [f"seed={seed}"]), range(8))
        ]
    assert seeds == list(range(8))
    assert all(now is then for now, then in zip((Singleton._instances, BaseContainer._resolvers), outside, strict=True))
    assert dict(vars(Container)) == methods


def test_a_worker_restores_the_job_with_a_hydra_of_ours() -> None:
    pickled = pickle.dumps(Job())
    with hydra_private.isolated():  # as in the process of a worker, which nobody else needs
        composing._for_good.enter_context(hydra_private.isolated())
        job = pickle.loads(pickled)
        assert OmegaConf.create({"path": "x${exporter.suffix:h5}"}).path == "x.h5"
        instances = Singleton._instances
        assert isinstance(copy.deepcopy(job), Job)
        assert Singleton._instances is instances
        composing._for_good.close()
    assert not OmegaConf.has_resolver("exporter.suffix")
