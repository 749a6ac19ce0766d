"""The Python face: the same jobs as on the command line, from Python and from a notebook."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from exporter.cli.composing import compose
from exporter.cli.preflight.reading import convert_values
from exporter.cli.respelling import spelled_in_python
from exporter.config import ExportConfig
from exporter.config.live import make_plain, read_settings
from exporter.errors import Fault, UsageError
from exporter.exporting.job import run_export
from exporter.exporting.references import check_model
from exporter.exporting.reporting import choose_reporter
from exporter.exporting.session import ExportSession

if TYPE_CHECKING:
    import keras

    from exporter.artifacts.inspection import Inspection
    from exporter.artifacts.inspection.comparison import Comparison, SignatureComparison
    from exporter.artifacts.inspection.showing.versions_page import Versions
    from exporter.artifacts.receipt import Receipt
    from exporter.cli.commands.verifying import Verification
    from exporter.exporting.dry_run.records import Forecast
    from exporter.exporting.reporting import Reporter

# A path, or a URL in a store.
Place = str | os.PathLike[str]


@overload
def export(
    source: ExportConfig,
    /,
    *,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
) -> Receipt: ...


@overload
def export(
    source: str,
    overrides: Sequence[str] = (),
    /,
    *,
    config_dir: Place | None = None,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
) -> Receipt: ...


@overload
def export(
    source: keras.Model | Callable[..., Any] | Mapping[str, Any] | os.PathLike[str],
    filepath: Place,
    /,
    *,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Receipt: ...


def export(
    source: Any,
    given: Any = None,
    /,
    *,
    config_dir: Place | None = None,
    run_directory: Path | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Receipt:
    """Builds a model if it is not there yet, saves it, proves what was written, and publishes it.

    What can be exported:

    - a recipe: its name, and its overrides as a list, such as `export("digits", ["save_format=h5"])`;
    - a live model: the `keras.Model` and the filepath, such as `export(model, "exports/mine", save_format="keras")`;
    - what makes a model: a function, or `{"_target_": function, **arguments}`, and the filepath;
    - a model on the disk: its `pathlib.Path`, and the filepath;
    - a config: an `ExportConfig`, such as `compose` returns.

    The process that proves the artifact stays, with nothing of it, and proves the next one of this process sooner; it
    ends with this process.

    Args:
        source: The recipe's name, the model, what makes it, or the config.
        given: The overrides of a recipe, in Hydra's grammar; the filepath of a model, relative to the working
            directory.
        config_dir: With a recipe: a directory with recipes and group options of your own.
        run_directory: Where `receipt.json` is written as well; None for only beside the artifact.
        reporter: Is told about the progress, in place of what `progress` says.
        progress: Whether the progress is shown. None: on a terminal and in a notebook.
        settings: With a model: other keys of the config by their names, as they are in YAML, such as
            `signatures={"serving_default": {"batch": 1}}`; the option of a group by its name, such as
            `verify="reload"`; and functions where YAML has `_target_`.

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
    with _spelled(source):
        config = _read_source(source, given, config_dir, settings)
        with (
            _collector_restored(),
            ExportSession(is_warm=True) as session,
            choose_reporter(reporter, progress) as chosen,
        ):
            return run_export(config, run_directory=run_directory, reporter=chosen, session=session)


def check(
    source: Any,
    given: Any = None,
    /,
    *,
    config_dir: Place | None = None,
    reporter: Reporter | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Forecast:
    """Tells of an export, without writing anything, whether it can be made, and what each format can hold.

    Args:
        source: See `export`, also for the others.
        given: See there.
        config_dir: See there.
        reporter: See there.
        progress: See there.
        settings: See there.

    Returns:
        What was found; `print` shows what `exporter check` prints.

    Raises:
        UsageError: With every fault of the recipe, the overrides and the settings.
        ExportError: The model could not be built.

    Example:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        forecast = exporter.check(model, "exports/mine.keras")
        forecast.exit_code  # 0
    """
    from exporter.exporting.dry_run.forecast import forecast_export

    with _spelled(source):
        config = _read_source(source, given, config_dir, settings)
        with _collector_restored(), choose_reporter(reporter, progress) as chosen:
            return forecast_export(config, chosen)


def inspect(path: Place) -> Inspection:
    """Reads what an artifact says of itself. Nothing of it is run, and TensorFlow is not imported.

    Args:
        path: The artifact, by whomever it was written, or its URL; of a directory of versions, the newest is taken.

    Returns:
        What it says; `print` shows what `exporter inspect` prints.

    Raises:
        ArtifactError: There is no artifact, or it is damaged.

    Example:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        exporter.save_model(model, "models/small.h5")
        inspection = exporter.inspect("models/small.h5")
        inspection.format  # h5
    """
    from exporter.cli.commands import inspecting

    with spelled_in_python():
        return inspecting.inspect(path)


@overload
def diff(first: Place, second: Place, /, *, signatures: Literal[False] = False) -> Comparison: ...


@overload
def diff(first: Place, second: Place, /, *, signatures: Literal[True]) -> SignatureComparison: ...


def diff(first: Place, second: Place, /, *, signatures: bool = False) -> Comparison | SignatureComparison:
    """Compares two artifacts of any formats. Nothing of them is run, and TensorFlow is not imported.

    Args:
        first: An artifact, its URL, or a directory of versions; with `signatures`, the one that clients rely on.
        second: The one to compare it with.
        signatures: Whether nothing but the endpoints is compared.

    Returns:
        How they differ; `print` shows what `exporter diff` prints.

    Raises:
        ArtifactError: One of them is none, or is damaged.

    Example:
        import keras

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        exporter.save_model(model, "models/small.h5")
        exporter.save_model(model, "models/small.keras")
        exporter.diff("models/small.h5", "models/small.keras").same  # True
    """
    from exporter.cli.commands import comparing

    with spelled_in_python():
        return comparing.diff_signatures(first, second) if signatures else comparing.diff(first, second)


def verify(
    path: Place,
    *,
    files_only: bool = False,
    public_key: Place | None = None,
    signature: Place | None = None,
    environments: Sequence[str] = (),
    rebuild: bool = False,
    trust: Sequence[str] = (),
    environment: Sequence[str] = (),
    inputs: Sequence[str] = (),
    timeout: float | None = None,
    memory: float | None = None,
) -> Verification:
    """Proves an artifact again: every file is the one that was exported, and every reader loads the same model from it.

    Args:
        path: The artifact, or its URL; of a directory of versions, the newest is taken.
        files_only: Whether nothing is loaded: this needs no TensorFlow.
        public_key: A PEM file: the signature is checked with it as well.
        signature: The signature; None for `<path>.sig`.
        environments: Directories of environments, as `python -m venv` makes them, in which it is opened as well.
        rebuild: Whether it is made again from the recipe inside, and the bytes compared.
        trust: With `rebuild`: see `rerun`.
        environment: With `rebuild`: see `rerun`.
        inputs: With `rebuild`: see `rerun`.
        timeout: Seconds after which what it computes is stopped; None for 600 and more by its size.
        memory: The most memory in GiB; None for 4 and 16 times its size.

    Returns:
        What was found, with `passed`; `print` shows what `exporter verify` prints.

    Raises:
        ArtifactError: There is no artifact, nothing to hold it against, or it cannot be loaded.
        UsageError: The arguments contradict each other.

    Example:
        receipt = exporter.export("digits", ["model.epochs=1", "save_format=h5", "verify=none"])
        exporter.verify(receipt.filepath, files_only=True).passed  # True
    """
    from exporter.cli.commands import verifying

    with spelled_in_python():
        return verifying.verify(
            path,
            files_only=files_only,
            public_key=public_key,
            signature=signature,
            environments=environments,
            rebuild=rebuild,
            trust=trust,
            environment=environment,
            inputs=inputs,
            timeout=timeout,
            memory=memory,
        )


def rerun(
    path: Place,
    overrides: Sequence[str] = (),
    *,
    trust: Sequence[str] = (),
    environment: Sequence[str] = (),
    inputs: Sequence[str] = (),
    allow_drift: bool = False,
    timeout: float | None = None,
    memory: float | None = None,
) -> Receipt:
    """Makes an artifact again, from the recipe inside it, in a process of its own.

    The new one goes into the working directory under the old one's name and `-rerun`, and replaces nothing, unless the
    overrides say otherwise.

    Args:
        path: The artifact, or its URL.
        overrides: What shall be different, in Hydra's grammar.
        trust: Modules and packages that the recipe may import.
        environment: Variables of the environment that it may read.
        inputs: Files and URLs that it may read, whatever they hold; `imagenet` for weights that Keras downloads.
        allow_drift: Whether the files that it reads may have changed.
        timeout: Seconds after which it is stopped; None for a day.
        memory: The most memory in GiB; None for three quarters of the machine's.

    Returns:
        The receipt of the new one.

    Raises:
        UsageError: With every fault of the recipe and the overrides, and all that nobody allowed.
        ArtifactError: There is no artifact, or no recipe inside it; or it took too long.
        ExportError: The export failed.

    Example:
        receipt = exporter.export("digits", ["model.epochs=1", "save_format=h5", "verify=none"])
        again = exporter.rerun(receipt.filepath)
        exporter.diff(receipt.filepath, again.filepath).same  # True
    """
    from exporter.cli.commands import rerunning

    with spelled_in_python():
        return rerunning.make_again(
            path,
            overrides,
            trust=trust,
            environment=environment,
            inputs=inputs,
            allow_drift=allow_drift,
            timeout=timeout,
            memory=memory,
        )


def versions(directory: Place) -> Versions:
    """Lists the numbered versions in a directory that a model server watches, the newest first.

    Args:
        directory: On the disk.

    Returns:
        The versions, as a sequence; `print` shows what `exporter versions` prints.

    Raises:
        ArtifactError: There are none.

    Example:
        exporter.export("digits", ["model.epochs=1", "layout=tf_serving", "filepath=served"])
        exporter.versions("served")[0].number  # 1
    """
    from exporter.cli.commands.versions import listing

    with spelled_in_python():
        return listing.list_versions(directory)


def _spelled(source: object) -> AbstractContextManager[None]:
    """Spells errors in Python, but for a recipe, whose overrides are Hydra's."""
    return nullcontext() if isinstance(source, str) else spelled_in_python()


@contextmanager
def _collector_restored() -> Iterator[None]:
    """Leaves the collector to the caller, and so what was alive when TensorFlow was imported."""
    had_frozen = gc.get_freeze_count() > 0
    try:
        yield
    finally:
        if not had_frozen:
            gc.unfreeze()


def _read_source(source: Any, given: Any, config_dir: Place | None, settings: dict[str, Any]) -> ExportConfig:
    """Reads what is exported, in any of its forms."""
    if isinstance(source, str):
        _refuse(settings, "belongs to the recipe; write it as an override: ['{name}=VALUE']")
        return compose(source, [given] if isinstance(given, str) else () if given is None else given, config_dir)
    if config_dir is not None:
        raise UsageError([Fault("config_dir", "goes with the name of a recipe")])
    if not isinstance(source, ExportConfig):
        return _configure(source, given, settings)
    _refuse(settings, "belongs to the config; set it there")
    if given is not None:
        raise UsageError([Fault("filepath", f"received {given}; it belongs to the config; set it there")])
    return source


def _refuse(settings: dict[str, Any], remedy: str) -> None:
    if settings:
        raise UsageError([Fault(name, remedy.format(name=name)) for name in settings])


def _configure(source: Any, filepath: Any, settings: dict[str, Any]) -> ExportConfig:
    _refuse({name: None for name in settings if name == "model"}, "is given once, as the first argument")
    values, faults = read_settings(settings)
    if filepath is not None:
        values["filepath"] = os.fspath(filepath) if isinstance(filepath, os.PathLike) else filepath
    model = _read_model(source)
    if isinstance(model, Mapping):
        model, more = check_model(model)
        faults += more
    config, more = convert_values({"model": model, **values}, ExportConfig)
    if config is None or faults or more:
        raise UsageError([*faults, *more])
    return config


def _read_model(source: Any) -> Any:
    if isinstance(source, os.PathLike):
        return {"_target_": "exporter.sources.file", "filepath": os.fspath(source)}
    keras = sys.modules.get("keras")
    is_model = keras is not None and isinstance(source, keras.Model)  # which can be called like a function
    return source if is_model else make_plain(source)
