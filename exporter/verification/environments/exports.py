"""The proof of what is being exported, in the environments that its recipe names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.config import ExportConfig
from exporter.errors import ProofError
from exporter.models.training.steps import preserve_model
from exporter.saving.formats.format import Format
from exporter.saving.state.replicas import on_one_device
from exporter.typing.keras import Model
from exporter.verification.comparing.asked import VerificationInputs
from exporter.verification.deployment.rounding import find_half_unit
from exporter.verification.environments.interpreters import find_environment
from exporter.verification.environments.proof import Found, expect_model, visit_all


def prove_elsewhere(
    config: ExportConfig,
    save_format: Format,
    model: Model,
    staged: Path,
    inputs: VerificationInputs,
    *,
    safe_mode: bool,
    objects: Sequence[Mapping[str, object]],
) -> Found:
    """Opens what was written in every environment of `verify.environments`, and compares it with the model.

    Args:
        config: The export.
        save_format: Of the artifact.
        model: The model; it is not changed.
        staged: The artifact.
        inputs: What both are asked.
        safe_mode: Whether it can be loaded without the code of its maker.
        objects: The model's own classes and functions: see `visiting.visit`.

    Returns:
        The checks, all of which passed; and what an environment does not load.

    Raises:
        ProofError: At least one check failed; the message names each with its figure.
    """
    environments = [find_environment(each, save_format) for each in config.verify.environments]
    readers = sorted({reader for each in environments for reader in each.readers})
    is_exact = config.quantize is None or config.quantize.is_exact
    with on_one_device(model), preserve_model(model):
        expected = expect_model(
            model,
            readers,
            inputs,
            half_unit=find_half_unit(model, config.quantize),
            most=config.verify.tolerance if is_exact else None,
        )
        found = visit_all(
            environments,
            staged,
            expected,
            tags=config.options.extra_tags,
            safe_mode=safe_mode,
            objects=objects,
        )
    failed = [check for check in found.checks if not check.passed]
    if failed:
        raise ProofError(
            "The artifact is the same model here, and not in every environment of `verify.environments`: "
            f"{len(failed)} of {len(found.checks)} checks failed, and nothing was published.",
            *(f"  {check.name}: {check.figure}; {check.detail}" for check in failed),
            "Install there what is lacking, set `compatibility` to the release of Keras that it has, or take it out of "
            "`verify.environments`.",
            checks=found.checks,
        )
    return found
