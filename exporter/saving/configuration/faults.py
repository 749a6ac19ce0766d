"""What Keras raises when a configuration, a file or a model is not what it expects, in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from exporter.errors import ArtifactError, ExporterError, ModelError
from exporter.text.failures import describe_failure
from exporter.text.showing import find_first_line, join_lines

# What Keras, and the constructors that it calls, raise when a configuration is not what they expect.
LOAD_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError, tf.errors.OpError),
)


@contextmanager
def keras_explained(place: object, faults: tuple[type[Exception], ...] = LOAD_FAULTS) -> Iterator[None]:
    """Makes an ArtifactError of what Keras raises inside, which is all that should be done there.

    Args:
        place: The artifact.
        faults: What Keras may raise.

    Raises:
        ArtifactError: It did.
    """
    try:
        yield
    except ArtifactError:
        raise
    except faults as error:
        raise ArtifactError(f"Keras cannot load {place}: {join_lines(error)}") from error


@contextmanager
def tracing_explained(name: str) -> Iterator[None]:
    """Makes a ModelError of what a model or a layer raises while it is traced, which is all that should be done there.

    Args:
        name: Of the model or the layer.

    Raises:
        ModelError: It cannot be traced.
    """
    try:
        yield
    except ExporterError:
        raise
    except Exception as error:  # the call may be anybody's code
        raise ModelError(
            f"'{name}' cannot be traced as a TensorFlow function of its inputs, which a SavedModel holds: "
            f"{describe_failure(error).removesuffix('.')}. Save it with save_format='keras', or let its `call` take "
            "inputs of any size."
        ) from error


def first_line(error: BaseException | str) -> str:
    """Returns the first line of an error that says something, as a sentence."""
    text = find_first_line(error, type(error).__name__)
    if isinstance(error, LookupError):  # its text is the key alone
        text = f"{type(error).__name__}: {text}"
    return text if text.endswith(".") else f"{text}."


def explain(error: Exception) -> str:
    """Returns what is wrong with a configuration, and what to do, from the error that Keras raised."""
    # Keras wraps a fault once for every level of nesting; the innermost one says what is wrong.
    _, nested, reason = str(error).rpartition("Exception encountered: ")
    text = " ".join(reason.split())
    if "safe_mode" in text or "unsafe" in text:
        return f"{first_line(reason)} Load it with safe_mode=False only if you trust where the file comes from."
    if "Could not locate" in text:
        head = text.split(". ")[0]
        return (
            f"{head}. Import the module that defines it, register it with "
            "`@keras.saving.register_keras_serializable()`, or name it in `custom_objects`."
        )
    if not nested:
        return first_line(error)
    return (
        f"{first_line(reason)} Check the class that is named here, and that the `from_config` of each class rebuilds "
        "the objects that its `get_config` holds."
    )
