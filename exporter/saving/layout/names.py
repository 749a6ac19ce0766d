"""The names of the files inside an artifact: those of TensorFlow, those of Keras, and our own."""

# Of TensorFlow, in a SavedModel. The graph is also what makes a directory one.
GRAPH = "saved_model.pb"
FINGERPRINT = "fingerprint.pb"
VARIABLES = "variables"
INDEX = f"{VARIABLES}/variables.index"
DATA = f"{VARIABLES}/variables.data-00000-of-00001"
SHARDS = f"{VARIABLES}/variables.data-*"
DEBUG_INFO = "debug/saved_model_debug_info.pb"

# Of Keras, in a `.keras` archive and in a directory that holds the same.
CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
ASSETS = "assets"

# Of Keras 2, beside the graph: the configurations of the model and its layers.
KERAS_2_METADATA = "keras_metadata.pb"
# The configuration of a model that `export_saved_model` of TensorFlow 1 wrote.
EXPORTED_CONFIG = f"{ASSETS}/saved_model.json"

# What TF Serving asks a version before anybody else does.
WARMUP = "assets.extra/tf_serving_warmup_requests"

# Ours, where TensorFlow and TF Serving leave it alone.
OURS = "assets.extra/exporter"
STATE = f"{OURS}/state.json"
FUNCTIONS = f"{OURS}/functions.json"
CHECKSUMS = f"{OURS}/checksums.json"
OWN_CONFIG = f"{OURS}/{CONFIG}"
DOCUMENT = f"{OURS}/document.json"
MANIFEST = f"{OURS}/manifest.json"

# Notes that an export leaves in every format, in a place of the format's own.
RECIPE = "recipe.yaml"
VERSIONS = "versions.json"
INPUTS = "inputs.json"
