"""Where a model comes from.

The functions of `SOURCES` return a `keras.Model` and are named by `model._target_` in a recipe; so can be any function
of the user's own. Importing this package loads neither TensorFlow nor Keras: the functions do.
"""

from exporter.sources._digits import digits as digits
from exporter.sources._digits import digits_data as digits_data
from exporter.sources._networks import application as application
from exporter.sources._networks import architecture as architecture
from exporter.sources._registry import SOURCES as SOURCES
from exporter.sources._registry import DataSplit as DataSplit
from exporter.sources._stored import file as file
