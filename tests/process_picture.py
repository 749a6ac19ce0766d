"""Says what importing every module of the package, and composing a recipe, changes in a process: a program."""

import atexit
import faulthandler
import gc
import importlib
import locale
import logging
import os
import pkgutil
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fsspec
import h5py
import hydra.utils
import keras
import onnx  # noqa: F401  it counts its own leaks when a process ends
import rich.console
import tensorflow as tf
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from omegaconf.basecontainer import BaseContainer

import exporter
from exporter.errors import UsageError

# What Python itself writes into a class or a module when somebody asks for it.
_KEPT_BY_PYTHON = {"__annotations__", "__doc__", "__warningregistry__", "__builtins__", "_abc_impl", "__slotnames__"}

Picture = dict[tuple[Any, ...], Any]


def take() -> Picture:
    """Gives all that a process shares, by its place, without what is the same object in every process."""
    return {key: value for part in _PARTS for key, value in part() if not isinstance(value, types.ModuleType)}


def list_settings() -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield from ((("signal", number.name), signal.getsignal(number)) for number in signal.Signals)
    yield ("warnings",), [repr(entry) for entry in warnings.filters]
    yield from ((("environment", name), value) for name, value in os.environ.items())
    for name in ("path", "meta_path", "path_hooks"):
        yield (f"sys.{name}",), [repr(entry) for entry in getattr(sys, name)]
    yield ("exit functions",), atexit._ncallbacks()
    yield ("threads",), threading.active_count()
    yield ("recursion",), sys.getrecursionlimit()
    yield ("garbage",), (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), len(gc.callbacks))
    yield ("directory",), os.getcwd()
    yield ("locale",), locale.setlocale(locale.LC_ALL)
    yield ("faulthandler",), faulthandler.is_enabled()
    yield ("timeout",), socket.getdefaulttimeout()
    yield ("tracing",), (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())
    mask = os.umask(0)
    os.umask(mask)
    yield ("umask",), mask


def list_loggers() -> Iterator[tuple[tuple[Any, ...], Any]]:
    for name, logger in [("", logging.getLogger()), *logging.Logger.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger):
            handlers = tuple(each for each in logger.handlers if not isinstance(each, logging.NullHandler))
            state = (handlers, tuple(logger.filters), logger.level, logger.propagate, logger.disabled)
            if state != ((), (), logging.NOTSET, True, False):
                yield ("logger", name), state


def list_stored() -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Gives what Hydra, OmegaConf and Keras keep for the whole process."""
    yield from ((("Hydra's singleton", kind.__name__), each) for kind, each in Singleton._instances.items())
    yield from list_tree(ConfigStore.instance().repo, ("ConfigStore",))
    plugins: Any = Singleton._instances.get(Plugins)
    for kind, found in () if plugins is None else plugins.plugin_type_to_subclass_list.items():
        yield from ((("plugin", kind.__name__, number), each) for number, each in enumerate(found))
    yield from ((("resolver", name), resolver) for name, resolver in BaseContainer._resolvers.items())
    # The layers of this package stand under a name of its own.
    others = {k: v for k, v in keras.saving.get_custom_objects().items() if not k.startswith("exporter>")}
    yield from ((("custom object", name), each) for name, each in others.items())
    yield ("backend",), (keras.backend.backend(), keras.backend.floatx(), keras.backend.image_data_format())
    yield ("policy",), keras.config.dtype_policy().name
    yield ("eager",), (tf.executing_eagerly(), tf.config.functions_run_eagerly())


def list_tree(tree: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for name, entry in tree.items():
        yield from list_tree(entry, (*path, name)) if isinstance(entry, dict) else [((*path, name), entry)]


def list_attributes() -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Gives the attributes of every module that was there first, and those of its classes."""
    for name in MODULES:
        module = sys.modules.get(name)
        attributes = {} if module is None else dict(vars(module))
        yield from (
            (("attribute", name, key), value) for key, value in attributes.items() if key not in _KEPT_BY_PYTHON
        )
        for kind in attributes.values():
            if isinstance(kind, type) and kind.__module__ == name:
                attributes_of_it = dict(vars(kind)).items()
                label = kind.__qualname__
                yield from (
                    (("attribute", name, label, key), value)
                    for key, value in attributes_of_it
                    if key not in _KEPT_BY_PYTHON
                )


_PARTS = (list_settings, list_loggers, list_stored, list_attributes)


def compare(before: Picture, after: Picture) -> Iterator[str]:
    for key in {**before, **after}:
        there, here = (picture.get(key, "nothing") for picture in (before, after))
        if there is not here and (key[0] == "attribute" or there != here):
            yield f"{' '.join(map(str, key))}: {there!r:.60} became {here!r:.60}"


def import_all() -> None:
    for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
        importlib.import_module(module.name)


def compose() -> None:
    assert exporter.compose("digits").save_format == "tf"


def compose_badly() -> None:
    with suppress(UsageError):
        exporter.compose("digits", ["sede=3", "save_format=h6"])


LOADED = (fsspec, h5py, hydra.utils, keras, rich.console, tf, yaml)
MODULES = {name for name in sys.modules if name.partition(".")[0] != "exporter"} - {"__main__", "__mp_main__"}

if __name__ == "__main__":
    for step in (import_all, compose, compose_badly):
        before = take()
        step()
        for line in compare(before, take()):
            print(f"{step.__name__}: {line}")
