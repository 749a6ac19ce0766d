"""What to do about operations of TensorFlow that no runtime of others computes."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from exporter.saving.deployment.conversions import RefusedError

_REMEDIES = {
    r"Bitcast|Bitwise\w+": (
        "Where it comes of keras.ops.argmax, argmin or signbit, which look into the bits of a number, take tf.argmax "
        "or exporter.transforms.take_label as the endpoint's postprocess; leave it out of the endpoint otherwise."
    ),
    r"ScaleAndTranslate|Resize(Area|Bicubic)\w*": (
        "Resize with interpolation=bilinear or nearest, and without antialias, or outside of the endpoint."
    ),
    r"StridedSlice": (
        "Give each input a known length: declare it under `signatures`, with a number in its shape for "
        "everything but the batch."
    ),
    r".*(String|Regex|Ragged|Unicode).*": (
        "Declare an endpoint that takes token ids in place of text, and returns numbers."
    ),
}

# Of LiteRT.
OPEN_LISTS = (
    "LiteRT cannot hold a recurrent layer for batches of any size: the length of its list of states has to be known. "
    "Set batch=1, or another number, for the endpoint under `signatures`, or make the layer with unroll=True."
)


def explain_half(operations: Iterable[str]) -> str:
    """Says that LiteRT cannot compute in half precision."""
    return (
        f"LiteRT has no operation for what the model computes in half precision ({', '.join(operations)}). Build the "
        "model with dtype policy float32, and ask for quantize=float16."
    )


def find_remedy(operations: Iterable[str]) -> str:
    """Finds what one can do about the first of some operations that one can do something about.

    Args:
        operations: As TensorFlow calls them.

    Returns:
        A sentence; empty where there is nothing to say of these in particular.
    """
    named = list(operations)
    return next((text for kind, text in _REMEDIES.items() if any(re.fullmatch(kind, each) for each in named)), "")


@contextmanager
def refusals_explained(tool: str, remedy: str) -> Iterator[None]:
    """Makes a refusal of whatever another's tool raises: its errors have nothing in common.

    Args:
        tool: What it is called.
        remedy: A sentence: what to do instead.
    """
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        reason = _take_line(str(error)) or type(error).__name__
        raise RefusedError(f"{tool} refused the model: {reason}. {remedy}") from error


def _take_line(text: str) -> str:
    lines = (line.strip().rstrip(".") for line in text.splitlines())
    return next((line for line in lines if line), "")
