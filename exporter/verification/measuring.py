"""Load time, latency and memory of a finished artifact, measured in the fresh process."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.artifacts.records import Measurements
from exporter.config import MeasureConfig
from exporter.models.predictions import Predictor, choose_batch_sizes, draw_batch
from exporter.processes.arrays import write_arrays
from exporter.processes.fresh_process import FreshProcess
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.formats import has_endpoints
from exporter.saving.graph.endpoints import read_endpoints
from exporter.saving.graph.inputs import describe_inputs
from exporter.verification.custom_objects import find_needs
from exporter.verification.deployment.measuring import ask_figures
from exporter.verification.drawings import find_drawing


def measure(
    process: FreshProcess,
    model: Any,
    staged: Path,
    settings: MeasureConfig,
    *,
    seed: int,
    tags: Sequence[str] = (),
) -> Measurements:
    """Lets the fresh process load the artifact once more and predict one batch many times.

    A SavedModel whose `serving_default` takes what the model takes is measured as it is served: that endpoint, through
    TensorFlow alone. Anything else is measured with our `load_model` and one traced call.

    Args:
        process: The fresh process; it has answered everything that it was asked.
        model: The model that the artifact was made from, to draw a batch for.
        staged: The artifact.
        settings: How often, and with how many samples.
        seed: Of the batch.
        tags: Of the SavedModel's graph, beside `serve`.

    Returns:
        What was measured.

    Raises:
        ExportError: The process could not load or call it, died, or did not answer.
    """
    inputs = describe_inputs(model)
    [size, *_] = choose_batch_sizes(inputs.leaves, [settings.batch_size])
    drawing = find_drawing(model, inputs, Predictor(model, inputs), size, seed)
    batch = draw_batch(model, inputs, size, seed, drawing)
    is_for_servers = has_endpoints(staged)
    endpoint = read_endpoints(staged).get(SERVING_DEFAULT) if is_for_servers else None
    is_served = endpoint is not None and set(endpoint.inputs) == {leaf.name for leaf in inputs.leaves}
    with tempfile.TemporaryDirectory(prefix="exporter-measure-") as folder:
        file = Path(folder) / "batch"
        write_arrays(file, {f"0/{leaf.name}": array for leaf, array in zip(inputs.leaves, batch, strict=True)})
        figures = ask_figures(
            process,
            staged,
            tags=["serve", *tags] if is_served else None,
            endpoint=SERVING_DEFAULT,
            objects=find_needs(model).to_json(),
            inputs=inputs.to_json(),
            batch=str(file),
            eager=bool(model.run_eagerly) and not is_for_servers,
            warm_up=settings.warm_up,
            runs=settings.runs,
        )
    reader = f"tf.saved_model.load, {SERVING_DEFAULT}" if is_served else "exporter.load_model"
    return Measurements(reader=reader, batch_size=size, runs=settings.runs, **figures)
