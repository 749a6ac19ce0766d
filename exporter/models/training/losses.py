"""What losses take as targets: Keras's own are known by their names."""

from collections.abc import Sequence

import keras

from exporter.saving.graph.inputs import to_argument_name
from exporter.saving.private_api import to_snake_case
from exporter.typing.keras import Model

# What Keras's own losses take as targets: class functions and classes alike, by their names in snake case.
_KINDS = {
    "sparse_categorical_crossentropy": "classes",
    "categorical_generalized_cross_entropy": "classes",
    "circle": "classes",
    "categorical_crossentropy": "one-hot",
    "categorical_focal_crossentropy": "one-hot",
    "categorical_hinge": "one-hot",
    "binary_crossentropy": "flags",
    "binary_focal_crossentropy": "flags",
    "dice": "flags",
    "tversky": "flags",
    "hinge": "signs",
    "squared_hinge": "signs",
    "poisson": "positive",
    "kl_divergence": "positive",
    "mean_absolute_percentage_error": "positive",
    "mean_squared_logarithmic_error": "positive",
    "mean_squared_error": "numbers",
    "mean_absolute_error": "numbers",
    "huber": "numbers",
    "log_cosh": "numbers",
    "cosine_similarity": "numbers",
    "ctc": "labels",
}


def find_losses(model: Model, names: Sequence[str]) -> dict[str, object]:
    """Finds the loss of each output, by its name; an output may have none."""
    loss = model.loss
    if isinstance(loss, dict):
        flat = keras.tree.flatten_with_path(loss)
        return {to_argument_name("_".join(str(step) for step in path)): value for path, value in flat}
    if isinstance(loss, (list, tuple)):
        return dict(zip(names, keras.tree.flatten(loss), strict=False))
    return dict.fromkeys(names, loss)


def find_target_kind(loss: object, output: tuple[int, ...]) -> str | None:
    """Finds what a loss takes as targets for an output of this shape; None if it is not one of Keras's own."""
    if isinstance(loss, str) and loss in ("crossentropy", "ce"):  # Keras decides by the shapes
        return "classes" if output and output[-1] > 1 else "flags"
    return _KINDS.get(_name_loss(loss))


def _name_loss(loss: object) -> str:
    """Returns the name of the loss of Keras's own that this one is or is made of, in snake case; else ''."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return ""
    if isinstance(loss, keras.losses.Loss):
        names = [to_snake_case(kind.__name__) for kind in type(loss).__mro__ if kind.__module__.startswith("keras.")]
        names.append(getattr(getattr(loss, "fn", None), "__name__", ""))
        return next((name for name in names if name in _KINDS), "")
    return str(getattr(loss, "__name__", ""))
