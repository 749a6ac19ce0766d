"""What converts to what, as the table for readers says it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import pytest
from keras import layers, ops

from exporter.errors import ModelError, ProofError
from exporter.saving.formats.deployed import DeployedFormat

from .conftest import DEPLOYED, Bench
from .models import make

pytestmark = pytest.mark.xdist_group("deployment")

PAGE = Path(__file__).parents[2] / "exporter" / "data" / "help" / "deployment.md"
BLOCK = re.compile(r"<!-- conversions -->\n(.*?)<!-- /conversions -->", re.DOTALL)
HEADER = ("model", *(each.name for each in DEPLOYED))

# What a refusal says of one model alone.
_OF_THIS_MODEL = "|".join(
    (
        r"The endpoint '[^']*' has texts [^,]*, and ",
        r"what the endpoint '[^']*' computes with: ",
        r" in '[^']*'",
        r" \(endpoint '[^']*'\)",
    )
)

# Larger ones are broken, by a factor of a hundred and more.
ALLOWED = 8


def make_stack(shape: tuple[int, ...], *stack: Callable[[], layers.Layer], dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(7)
    given = keras.Input(shape, dtype=dtype, name="given")
    values = given
    for each in stack:
        values = each()(values)
    return keras.Model(given, values)


class Best(layers.Layer):
    """The class with the highest score, as Keras computes it."""

    def call(self, scores: keras.KerasTensor) -> keras.KerasTensor:
        return ops.argmax(scores, axis=-1)


KINDS: Mapping[str, Callable[[], keras.Model]] = {
    "convolutions, batch normalisation, softmax": lambda: make("convolutional"),
    "attention, exact gelu": lambda: make("transformer"),
    "LSTM": lambda: make("recurrent"),
    "LSTM with `unroll=True`": lambda: make_stack((4, 3), lambda: layers.LSTM(2, unroll=True)),
    "bidirectional GRU, masked": lambda: make("masked"),
    "several inputs and outputs": lambda: make("branches"),
    "U-Net": lambda: make("segmenter"),
    "grouped convolution": lambda: make_stack((6, 6, 4), lambda: layers.Conv2D(8, 3, groups=2)),
    "max pooling of volumes": lambda: make_stack((4, 4, 4, 1), layers.MaxPooling3D),
    "bilinear `Resizing`": lambda: make_stack((6, 6, 3), lambda: layers.Resizing(9, 4)),
    "`Resizing` with `antialias`": lambda: make_stack((6, 6, 3), lambda: layers.Resizing(3, 3, antialias=True)),
    "`keras.ops.argmax`": lambda: make_stack((6,), lambda: layers.Dense(3), Best),
    "`mixed_float16`": lambda: make_stack((6,), lambda: layers.Dense(3, dtype="mixed_float16")),
    "`StringLookup`": lambda: make_stack((2,), lambda: layers.StringLookup(vocabulary=["a", "fox"]), dtype="string"),
    "`TextVectorization`": lambda: make_stack(
        (), lambda: layers.TextVectorization(vocabulary=["a", "fox"], output_sequence_length=3), dtype="string"
    ),
}


def describe(bench: Bench, kind: str, save_format: DeployedFormat, place: Path) -> str:
    """Says whether a model converts, or the first sentence of the refusal, without what is of this one model."""
    model = KINDS[kind]()
    try:
        contents = bench.convert(save_format, model, place)
    except ModelError as error:
        sentence = str(error).partition("cannot be exported like this: ")[2].partition(". ")[0]
        return re.sub(_OF_THIS_MODEL, "", sentence).partition(": ")[0]
    try:
        result = bench.prove(save_format, model, place, contents)
    except ProofError as error:
        return str(error).splitlines()[1].strip()
    return "yes" if result.is_proven and (result.deployment.rounding or 0) <= ALLOWED else "no"


def make_table(bench: Bench, folder: Path) -> str:
    rows = [HEADER, tuple("---" for _ in HEADER)]
    for number, kind in enumerate(KINDS):
        places = ((each, folder / f"{number}-{each.name}{''.join(each.suffixes[:1])}") for each in DEPLOYED)
        rows.append((kind, *(describe(bench, kind, each, place) for each, place in places)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_table_says_what_converts(bench: Bench, tmp_path: Path) -> None:
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found
    assert found[1].strip() == make_table(bench, tmp_path).strip()
