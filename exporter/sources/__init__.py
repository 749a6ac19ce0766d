"""Where a model comes from.

`digits`, `file`, `application` and `architecture` return a `keras.Model` and are named by `model._target_` in a recipe;
so can be any function of the user's own. Importing this package loads neither TensorFlow nor Keras: the functions do.
"""

from exporter.models.building import build_model
from exporter.sources._digits import digits, digits_data
from exporter.sources._networks import application, architecture
from exporter.sources._stored import file

__all__ = ["application", "architecture", "build_model", "digits", "digits_data", "file"]
