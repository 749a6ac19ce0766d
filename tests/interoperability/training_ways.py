"""How training goes on, in any runtime."""

from dataclasses import dataclass

BATCH = 8


@dataclass(frozen=True, slots=True)
class Way:
    """A pair of endpoints, and the data for which they compute the same bits as `fit`.

    TensorFlow may round otherwise where it knows the size of the batch, and Keras knows it where all batches have one.

    Attributes:
        train: The name of the endpoint that trains.
        evaluate: The name of the one that evaluates.
        batch: What the endpoints declare.
        rows: How many rows there are to train with.
    """

    train: str
    evaluate: str
    batch: int | None
    rows: int


WAYS = {
    "full_batches": Way("train", "evaluate", BATCH, 4 * BATCH),
    "a_partial_batch": Way("train_any", "evaluate_any", None, 4 * BATCH + 3),
}
