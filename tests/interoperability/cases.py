"""What is exported for the consumers, and what each of them opens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Endpoint = Callable[[Array], Array]

COUNTS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Case:
    """One endpoint of one artifact.

    Attributes:
        artifact: The directory's name.
        endpoint: Its name.
        input: The name of what it takes.
        output: The name of what it gives.
    """

    artifact: str
    endpoint: str
    input: str
    output: str

    @property
    def identity(self) -> str:
        """A name for files and tests."""
        return f"{self.artifact}-{self.endpoint}"

    def read_inputs(self, folder: Path) -> Array:
        """Reads three rows of inputs; strings are an array of `str`."""
        with np.load(folder / f"{self.identity}.npz") as arrays:
            inputs: Array = arrays["inputs"]
            return inputs

    def read_outputs(self, folder: Path, count: int) -> Array:
        """Reads what the model itself made of the first rows; strings are an array of `bytes`."""
        with np.load(folder / f"{self.identity}.npz") as arrays:
            outputs: Array = arrays[f"outputs_{count}"]
            return outputs


DIGITS = Case("digits", "serving_default", "pixels", "probabilities")
RECOGNIZE = Case("digits", "recognize", "pixels", "class")
MOBILENET = Case("mobilenet", "serving_default", "input_layer", "predictions")
SENTENCES = Case("sentences", "serving_default", "sentence", "topic")
TOKEN_IDS = Case("sentences", "token_ids", "token_ids", "topic")
WORDS = Case("words", "serving_default", "inputs", "topic")
# Of the same model as SENTENCES; it gives a string.
BEST = Case("sentences", "best", "sentence", "label")
# What `tf.saved_model.save` makes of the digits' model: it renames what goes in and out.
STOCK = Case("stock_digits", "serving_default", "inputs", "output_0")
CASES = (DIGITS, RECOGNIZE, MOBILENET, SENTENCES, TOKEN_IDS, WORDS)


def encode(inputs: Array) -> Array:
    """Returns strings as bytes objects, which TensorFlow's own string type is; other arrays as they are."""
    if inputs.dtype.kind != "U":
        return inputs
    return np.array([text.encode() for text in inputs.reshape(-1)], object).reshape(inputs.shape)
