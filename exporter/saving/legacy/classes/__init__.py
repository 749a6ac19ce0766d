"""Classes that older Keras had and Keras 3 has not, for models that were saved with them.

Importing this registers them for Keras in the package `exporter`, as importing any module of layers does.
"""

from collections.abc import Mapping

import keras

from exporter.saving.legacy.classes.cropping import RandomCrop as RandomCrop
from exporter.saving.legacy.classes.dense import Highway as Highway
from exporter.saving.legacy.classes.dense import MaxoutDense as MaxoutDense
from exporter.saving.legacy.classes.dense import RandomFourierFeatures as RandomFourierFeatures
from exporter.saving.legacy.classes.functions import TensorFlowFunction as TensorFlowFunction
from exporter.saving.legacy.classes.functions import find_arguments as find_arguments
from exporter.saving.legacy.classes.functions import is_half_written as is_half_written
from exporter.saving.legacy.classes.local import LocallyConnected1D as LocallyConnected1D
from exporter.saving.legacy.classes.local import LocallyConnected2D as LocallyConnected2D
from exporter.saving.legacy.classes.training import MeanRelativeError as MeanRelativeError
from exporter.saving.legacy.classes.training import RadialConstraint as RadialConstraint
from exporter.typing.structures import Config

OWN_CLASSES: Mapping[str, type] = {
    each.__name__: each
    for each in (
        *(LocallyConnected1D, LocallyConnected2D, MaxoutDense, Highway, RandomFourierFeatures, RandomCrop),
        *(MeanRelativeError, RadialConstraint, TensorFlowFunction),
    )
}


def describe_own(name: str, config: Config) -> Config:
    """Gives the configuration of an object of one of these classes, as Keras writes it.

    Args:
        name: The class, as older Keras called it.
        config: What its constructor takes.
    """
    kind = OWN_CLASSES[name]
    registered = keras.saving.get_registered_name(kind)
    return {"module": kind.__module__, "class_name": name, "config": config, "registered_name": registered}
