"""The proof in other environments of an artifact whose model is gone: what it answers here stands for the model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from exporter.config import VerifyConfig
from exporter.models.training.steps import preserve_model
from exporter.saving.deployment.quantizing import Quantize
from exporter.saving.formats.deployed import DeployedFormat
from exporter.saving.formats.format import Format
from exporter.typing.keras import Model
from exporter.verification.comparing.asked import VerificationInputs
from exporter.verification.deployment.comparing import Moved
from exporter.verification.deployment.reverification import make_batch, opened
from exporter.verification.deployment.rounding import HALF_UNITS, Rounding, find_half_unit
from exporter.verification.environments.interpreters import find_environment
from exporter.verification.environments.proof import Asked, Expected, Found, expect_model, visit_all
from exporter.verification.environments.visiting import Question

_ORIGIN = "small numbers, seeded"


def reverify_elsewhere(
    directories: Sequence[str],
    save_format: Format,
    model: Model,
    path: Path,
    inputs: VerificationInputs,
    tags: Sequence[str],
) -> Found:
    """Opens an artifact that holds a model in other environments, and compares it with what was loaded here.

    Args:
        directories: Of the environments.
        save_format: Of the artifact.
        model: What was loaded here.
        path: The artifact.
        inputs: What both are asked, with the functions of its endpoints.
        tags: Of the graph, beside `serve`.

    Returns:
        Every comparison, also those that failed.
    """
    environments = [find_environment(each, save_format) for each in directories]
    readers = sorted({reader for each in environments for reader in each.readers})
    with preserve_model(model):
        most = VerifyConfig().tolerance
        expected = expect_model(model, readers, inputs, half_unit=find_half_unit(model), most=most)
        return visit_all(environments, path, expected, tags=tags)


def reverify_deployed_elsewhere(directories: Sequence[str], save_format: DeployedFormat, path: Path) -> Found:
    """Opens a converted artifact in other environments, and compares what it answers there and here.

    Args:
        directories: Of the environments.
        save_format: Of the artifact.
        path: The artifact.

    Returns:
        Every comparison, also those that failed.
    """
    environments = [find_environment(each, save_format) for each in directories]
    document = save_format.find_runtime().read_file(path).document
    quantize = Quantize(document.quantize) if document and document.quantize else None
    is_exact = quantize is None or quantize.is_exact
    half_unit = HALF_UNITS["float16" if quantize is Quantize.FLOAT16 else "float32"]
    asked = []
    with opened(path, save_format) as artifact:
        for name, endpoint in sorted(artifact.endpoints.items()):
            batch = make_batch(endpoint)
            # The weights stay as they are, so this finds less than moving them would.
            rounding = Rounding(partial(artifact.ask, name), [batch], half_unit, seed=0)
            question = Question(endpoint=name, names=list(batch), batches=[list(batch.values())])
            moved = Moved(rounding, VerifyConfig().tolerance if is_exact else None)
            asked.append(Asked(f"outputs of {name}", question, moved, _ORIGIN))
        return visit_all(environments, path, Expected(model=None, asked={save_format.name: asked}))
