"""How batches are drawn for a model that says only by its errors what it does not take."""

from collections.abc import Iterator

from exporter.models.predictions import Drawing, Predictor, draw_batch
from exporter.models.randomness import generators_seeded
from exporter.models.training.steps import preserve_model, warnings_kept_back
from exporter.saving.graph.inputs import Inputs
from exporter.saving.private_api import is_op_determinism_enabled
from exporter.saving.state.replicas import on_one_device
from exporter.typing.keras import Model

# A position embedding takes sequences up to its size, an attention to patches takes multiples of theirs, and a stack of
# strided convolutions nothing short. The usual sizes come first, then the small ones, which cost little.
_LENGTHS = (7, 4, 2, 1, 8, 16, 64, 256, 1024, 4096)
_IMAGE_SIDES = (32, 16, 8, 64, 96, 128, 224, 256, 384, 512)
_VOLUME_SIDES = (8, 4, 2, 1, 16, 24, 32, 48, 64, 96)


def find_drawing(model: Model, inputs: Inputs, traced: Predictor, batch_size: int, seed: int) -> Drawing:
    """Finds how to draw batches that a model takes, by asking it.

    Args:
        model: The model; it is not changed.
        inputs: What it takes.
        traced: The model as a traced function, which is asked where the model cannot run eagerly.
        batch_size: Samples in the batches that are tried.
        seed: Of them.

    Returns:
        The first way that the model takes; the usual one if it takes none.
    """
    predictors = [Predictor(model, inputs, eager=True), *([] if model.run_eagerly else [traced])]
    with on_one_device(model), preserve_model(model), warnings_kept_back():
        for predictor in predictors:
            for drawing in _list_drawings(inputs):
                batch = draw_batch(model, inputs, batch_size, seed, drawing)
                try:
                    with generators_seeded(seed, is_op_determinism_enabled()):
                        predictor.answer(batch)
                except Exception:  # the model may be anybody's code, and refuse in any way
                    continue
                return drawing
    return Drawing()


def _list_drawings(inputs: Inputs) -> Iterator[Drawing]:
    is_open = any(size is None for leaf in inputs.leaves for size in leaf.shape[1:])
    sizes = list(zip(_LENGTHS, _IMAGE_SIDES, _VOLUME_SIDES, strict=True))
    for narrow in (False, True):
        for length, image_side, volume_side in sizes if is_open else sizes[:1]:
            yield Drawing(length, image_side, volume_side, narrow)
