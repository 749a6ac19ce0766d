"""The verification of an artifact whose model is gone: it is loaded in two processes, and both are compared.

Our `load_model` in this process stands for the model. A fresh process loads the artifact again with it, with stock
Keras and with TensorFlow alone, and each must predict, hold and train the same.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.artifacts.records import Check
from exporter.config import VerifyConfig
from exporter.errors import ProofError
from exporter.processes.collector import imports_set_aside
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import Omission
from exporter.saving.formats import has_endpoints
from exporter.saving.formats.format import Format


def reverify(
    path: Path, recipe: Mapping[str, Any], save_format: Format | None, environments: Sequence[str] = ()
) -> tuple[tuple[Check, ...], tuple[Omission, ...]]:
    """Loads an artifact in two processes and compares what each reader makes of it.

    Nothing inside the artifact is run that `safe_mode` refuses.

    Args:
        path: The artifact.
        recipe: The one inside it; empty where there is none.
        save_format: Its format; None if it is one that others write.
        environments: Directories of other environments that have to open it as well.

    Returns:
        Every comparison, also those that failed; and what could not be compared, or is not held for some reader.

    Raises:
        ExporterError: The artifact cannot be loaded.
    """
    with FreshProcess("exporter.verification") as process:
        with imports_set_aside():
            from exporter.saving.api import load_model
            from exporter.saving.formats.saved_model.reading import load_graph
            from exporter.verification import verification
            from exporter.verification.environments.reverification import reverify_elsewhere
            from exporter.verification.inputs import prepare_inputs

        verification.warm_up(process)
        model = load_model(path)
        tags = _read_tags(recipe)
        signatures: Any = None
        if has_endpoints(path) and recipe.get("signatures"):
            kept = load_graph(path, ["serve", *tags], safe_mode=True)  # its variables live as long as it does
            signatures = dict(kept.signatures)
        inputs = prepare_inputs(model, VerifyConfig(), 0, signatures)
        try:
            result = verification.verify(
                process,
                model,
                path,
                inputs,
                mode=VerifyConfig().mode,
                include_optimizer=bool(model.compiled),
                tags=tags,
                safe_mode=True,
            )
        except ProofError as error:
            return tuple(error.checks), ()
        if not environments or save_format is None:
            return result.checks, result.left_out
        if has_endpoints(path) and signatures is None:
            kept = load_graph(path, ["serve", *tags], safe_mode=True)
            inputs = prepare_inputs(model, VerifyConfig(), 0, dict(kept.signatures))
        found = reverify_elsewhere(environments, save_format, model, path, inputs, tags)
        return (*result.checks, *found.checks), (*result.left_out, *found.left_out)


def _read_tags(recipe: Mapping[str, object]) -> list[str]:
    """Gives the tags of the graph; a stranger's recipe may hold anything in their place."""
    options = recipe.get("options")
    tags = options.get("extra_tags") if isinstance(options, Mapping) else None
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
