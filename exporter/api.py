"""`exporter.export`: the same job as on the command line, from Python and from a notebook."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from exporter.cli.composing import compose
from exporter.cli.preflight.reading import convert_values
from exporter.config import ExportConfig
from exporter.errors import Fault, UsageError
from exporter.exporting.job import run_export
from exporter.exporting.session import ExportSession

if TYPE_CHECKING:
    import keras

    from exporter.artifacts.receipt import Receipt
    from exporter.exporting.reporting import Reporter


@overload
def export(
    source: ExportConfig, /, *, run_directory: Path | None = None, reporter: Reporter | None = None
) -> Receipt: ...


@overload
def export(
    source: str,
    overrides: Sequence[str] = (),
    /,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
) -> Receipt: ...


@overload
def export(
    source: keras.Model,
    filepath: str | os.PathLike[str],
    /,
    *,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Receipt: ...


def export(
    source: Any,
    given: Any = None,
    /,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Receipt:
    """Builds a model if it is not there yet, saves it, proves what was written, and publishes it.

    Three things can be exported:

    - a recipe: its name, and its overrides as a list, such as `export("digits", ["save_format=h5"])`;
    - a live model: the `keras.Model` and the filepath, such as `export(model, "exports/mine", save_format="keras")`;
    - a config: an `ExportConfig`, such as `compose` returns.

    Args:
        source: The recipe's name, the model, or the config.
        given: The overrides of a recipe, in Hydra's grammar; the filepath of a model, relative to the working
            directory.
        config_dir: With a recipe: a directory with recipes and group options of your own.
        run_directory: Where `receipt.json` is written as well; None for only beside the artifact.
        reporter: Is told about the progress; None for nobody.
        settings: With a model: other keys of the config by their names, as they are in YAML, such as
            `verify={"mode": "reload"}` or `signatures={"serving_default": {"batch": 1}}`.

    Returns:
        The receipt, which also stands beside the artifact as `<name>.receipt.json`. A notebook shows it as a table;
        `print` shows the summary of the command line.

    Raises:
        UsageError: With every fault of the recipe, the overrides and the settings; nothing was built.
        ProofError: What was written is not the same model; nothing was published.
        ExportError: The model could not be built, saved or published; what was at the filepath is unchanged.

    Example:
        receipt = exporter.export("digits", ["model.epochs=1", "save_format=h5"])
        receipt.status  # proven
        exporter.load_model(receipt.filepath)
    """
    if isinstance(source, str):
        _refuse(settings, "belongs to the recipe; write it as an override: ['{name}=VALUE']")
        overrides = [given] if isinstance(given, str) else () if given is None else given
        config: ExportConfig = compose(source, overrides, config_dir)
    else:
        if config_dir is not None:
            raise UsageError([Fault("config_dir", "goes with the name of a recipe")])
        config = source if isinstance(source, ExportConfig) else _configure(source, given, settings)
        if config is source:
            _refuse(settings, "belongs to the config; set it there")
            if given is not None:
                raise UsageError([Fault("filepath", f"received {given}; it belongs to the config; set it there")])
    had_frozen = gc.get_freeze_count() > 0
    try:
        with ExportSession(is_warm=True) as session:
            return run_export(config, run_directory=run_directory, reporter=reporter, session=session)
    finally:
        if not had_frozen:
            gc.unfreeze()  # this process is the caller's, and so is what was alive when TensorFlow was imported


def _refuse(settings: dict[str, Any], remedy: str) -> None:
    if settings:
        raise UsageError([Fault(name, remedy.format(name=name)) for name in settings])


def _configure(model: Any, filepath: Any, settings: dict[str, Any]) -> ExportConfig:
    _refuse({name: None for name in settings if name == "model"}, "is given once, as the first argument")
    values = {name: _make_plain(value) for name, value in settings.items()}
    if filepath is not None:
        values["filepath"] = os.fspath(filepath) if isinstance(filepath, os.PathLike) else filepath
    config, faults = convert_values({"model": model, **values}, ExportConfig)
    if config is None or faults:
        raise UsageError(faults)
    return config


def _make_plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {name: _make_plain(entry) for name, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value
