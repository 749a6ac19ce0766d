"""Reading artifacts without TensorFlow and Keras: what they hold, and how two of them differ."""

from exporter.artifacts.inspection.artifacts import open_artifact
from exporter.artifacts.inspection.inspection import Inspection, check_sums, inspect_artifact

__all__ = ["Inspection", "check_sums", "inspect_artifact", "open_artifact"]
