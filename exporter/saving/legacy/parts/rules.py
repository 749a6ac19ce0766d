"""What layers of older Keras were called and took, and what stands for it today.

Each row says which layers, which argument, what becomes of it, until which version, and where that is documented.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

GUIDE = "keras.io/guides/migrating_to_keras_3"
KERAS_2_NOTES = "github.com/keras-team/keras/wiki/Keras-2.0-release-notes"
TF_2_15 = "tensorflow.org/versions/r2.15/api_docs/python/tf/keras/layers"
TF_2_5 = "tensorflow.org/versions/r2.5/api_docs/python/tf/keras/layers/experimental/preprocessing"
TF_1_15 = "tensorflow.org/versions/r1.15/api_docs/python/tf/keras/layers"


@dataclass(frozen=True, slots=True)
class Renamed:
    """The argument has another name, and perhaps other words for its values."""

    name: str
    values: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, slots=True)
class Dropped:
    """The argument is gone, and these values of it meant nothing, or what is done anyway; with none given, all did."""

    harmless: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The argument is gone, and with it what is said here, unless it had one of these values."""

    harmless: tuple[Any, ...]
    loss: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one argument.

    Attributes:
        layers: The names of the classes, as they are called today; `*` for all.
        key: The argument.
        action: What becomes of it.
        until: The last version that wrote it.
        documented: Where.
    """

    layers: str
    key: str
    action: Renamed | Dropped | Lost
    until: str
    documented: str

    def applies_to(self, layer: str) -> bool:
        """Tells whether it is about a class."""
        return self.layers == "*" or layer in self.layers.split()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _choose(**words: str) -> Callable[[Any], Any]:
    return lambda value: words.get(value.replace("-", "_"), value) if isinstance(value, str) else value


_RECURRENT = (
    "RNN SimpleRNN LSTM GRU SimpleRNNCell LSTMCell GRUCell ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional "
    "StackedRNNCells"
)
_SEPARABLE = "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D"
_TRANSPOSED = "Conv1DTranspose Conv2DTranspose Conv3DTranspose"
_LOOKUPS = "StringLookup IntegerLookup TextVectorization"
_RANDOM = (
    "RandomFlip RandomZoom RandomRotation RandomContrast RandomCrop RandomTranslation RandomBrightness RandomHeight "
    "RandomWidth Dropout GaussianDropout GaussianNoise AlphaDropout"
)
_KERNEL = [f"kernel_{part}" for part in ("initializer", "regularizer", "constraint")]
_ENCODINGS = _choose(binary="multi_hot", tf_idf="tf_idf")

RULES: tuple[Rule, ...] = (
    Rule("*", "dynamic", Lost((False, None), "it ran as Python, step by step"), "2.15", GUIDE),
    Rule("*", "input_dtype", Dropped(), "1.2", KERAS_2_NOTES),
    Rule("*", "create_input_dict", Dropped(), "1.2", KERAS_2_NOTES),
    Rule("InputLayer", "batch_input_shape", Renamed("batch_shape"), "2.15", GUIDE),
    Rule("InputLayer", "type_spec", Dropped((None,)), "2.15", GUIDE),
    Rule("LeakyReLU", "alpha", Renamed("negative_slope"), "2.15", GUIDE),
    Rule("BatchNormalization", "axis", Renamed("axis", _first), "2.15", TF_2_15),
    Rule("LayerNormalization", "axis", Renamed("axis", _first), "2.15", TF_2_15),
    Rule("BatchNormalization", "fused", Dropped(), "2.15", TF_1_15),
    Rule("BatchNormalization", "virtual_batch_size", Lost((None,), "training in virtual batches"), "2.15", TF_1_15),
    Rule("BatchNormalization", "adjustment", Lost((None,), "its adjustment while training"), "2.15", TF_1_15),
    Rule("BatchNormalization", "renorm", Lost((False, None), "renormalization while training"), "2.15", TF_1_15),
    Rule("BatchNormalization", "renorm_clipping", Dropped(), "2.15", TF_1_15),
    Rule("BatchNormalization", "renorm_momentum", Dropped(), "2.15", TF_1_15),
    Rule("BatchNormalization", "mode", Dropped((0, 2)), "1.2", KERAS_2_NOTES),
    Rule(_RECURRENT, "time_major", Dropped((False, None)), "2.15", GUIDE),
    Rule(_RECURRENT, "implementation", Dropped(), "2.15", GUIDE),
    Rule(_RECURRENT, "input_length", Dropped(), "2.15", KERAS_2_NOTES),
    Rule(_RECURRENT, "input_dim", Dropped(), "2.15", KERAS_2_NOTES),
    Rule("StackedRNNCells", "reverse_state_order", Dropped((False, None)), "2.15", TF_2_15),
    Rule("Embedding", "input_length", Dropped(), "2.15", GUIDE),
    Rule("Embedding", "sparse", Dropped((False, None)), "2.15", TF_2_15),
    Rule("Embedding", "dropout", Lost((0, None), "dropout of whole words while training"), "1.2", KERAS_2_NOTES),
    Rule("Embedding", "weights", Dropped((None,)), "2.15", TF_2_15),
    Rule("Dense", "input_dim", Dropped(), "1.2", KERAS_2_NOTES),
    Rule("Flatten", "input_dim", Dropped(), "1.2", KERAS_2_NOTES),
    Rule(_SEPARABLE, "groups", Dropped((1,)), "2.15", TF_2_15),
    Rule(_TRANSPOSED, "groups", Dropped((1,)), "2.15", TF_2_15),
    *(Rule(_SEPARABLE, key, Dropped(), "2.15", TF_2_15) for key in _KERNEL),
    Rule("DepthwiseConv1D DepthwiseConv2D", "filters", Dropped((None,)), "2.15", TF_2_15),
    Rule("SpatialDropout1D SpatialDropout2D SpatialDropout3D", "noise_shape", Dropped(), "2.15", TF_2_15),
    Rule("MultiHeadAttention", "query_shape", Dropped(), "2.15", TF_2_15),
    Rule("MultiHeadAttention", "key_shape", Dropped(), "2.15", TF_2_15),
    Rule("MultiHeadAttention", "value_shape", Dropped(), "2.15", TF_2_15),
    Rule("Lambda", "function_type", Dropped(), "2.15", GUIDE),
    Rule("Lambda", "module", Dropped(), "2.15", GUIDE),
    Rule("Lambda", "output_shape_type", Dropped(), "2.15", GUIDE),
    Rule("Lambda", "output_shape_module", Dropped(), "2.15", GUIDE),
    Rule("Lambda", "mask_type", Dropped(), "2.15", GUIDE),
    Rule("Lambda", "mask_module", Dropped(), "2.15", GUIDE),
    Rule(_LOOKUPS, "vocabulary_size", Dropped(), "2.15", TF_2_15),
    Rule(_LOOKUPS, "has_input_vocabulary", Dropped(), "2.15", TF_2_15),
    Rule(_LOOKUPS, "output_mode", Renamed("output_mode", _ENCODINGS), "2.5", TF_2_5),
    Rule("StringLookup IntegerLookup", "num_oov_tokens", Renamed("num_oov_indices"), "2.3", TF_2_5),
    Rule(
        "StringLookup TextVectorization",
        "encoding",
        Renamed("encoding", lambda value: value or "utf-8"),
        "2.15",
        TF_2_15,
    ),
    Rule("IntegerLookup", "max_values", Renamed("max_tokens"), "2.4", TF_2_5),
    Rule("IntegerLookup", "oov_value", Renamed("oov_token"), "2.5", TF_2_5),
    Rule("IntegerLookup", "mask_value", Renamed("mask_token"), "2.5", TF_2_5),
    Rule("CategoryEncoding", "max_tokens", Renamed("num_tokens"), "2.5", TF_2_5),
    Rule("CategoryEncoding", "output_mode", Renamed("output_mode", _ENCODINGS), "2.5", TF_2_5),
    Rule("Discretization", "bins", Renamed("bin_boundaries"), "2.4", TF_2_5),
    *(Rule(_RANDOM, key, Dropped(), "2.15", TF_2_15) for key in ("rng_type", "force_generator")),
    Rule("Softmax", "robust_masking", Dropped(), "2.15", TF_2_15),
    Rule("MultiHeadAttention", "softmax_robust_masking", Dropped(), "2.15", TF_2_15),
    Rule(
        "Dropout SpatialDropout1D GaussianDropout GaussianNoise AlphaDropout",
        "p",
        Renamed("rate"),
        "1.2",
        KERAS_2_NOTES,
    ),
)

# Classes by their former names.
RENAMED_CLASSES: Mapping[str, str] = {
    "Model": "Functional",
    "Network": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "MultiHeadAttentionV2": "MultiHeadAttention",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
}

# What such a class took for granted.
IMPLIED: Mapping[str, Mapping[str, Any]] = {
    "SyncBatchNormalization": {"synchronized": True},
    # The argument came with 2.1.3, and its default changed with TensorFlow 2.
    "GRU": {"reset_after": False},
    "GRUCell": {"reset_after": False},
    "CuDNNGRU": {"reset_after": True},
}

# Classes that Keras 3 has in another place.
MODULES: Mapping[str, str] = dict.fromkeys(
    ("RandomHeight", "RandomWidth", "ThresholdedReLU"), "keras._legacy.layers"
) | {"Functional": "keras.src.models.functional", "Sequential": "keras", "Model": "keras"}

# Layers that Keras had and has no more, without a class of ours: since and until when, and what they do.
GONE_CLASSES: Mapping[str, str] = {
    "DenseFeatures": "of tf.keras 1.15 to 2.15 computes feature columns",
    "SequenceFeatures": "of tf.keras 1.15 to 2.15 computes feature columns",
    "CategoryCrossing": "of tf.keras 2.3 to 2.6 crosses categories as text",
    "DynamicEmbedding": "of tf_keras from 2.16 adds words while it trains",
    "DynamicLookup": "of tf_keras from 2.16 adds words while it trains",
    "LinearModel": "of tf.keras 1.15 to 2.15 is a model that Keras defined",
    "WideDeepModel": "of tf.keras 1.15 to 2.15 is a model that Keras defined",
    "PeepholeLSTMCell": "of tf.keras 1.15 to 2.8 lets the gates of an LSTM look at its state",
    "ConvRecurrent2D": "of Keras 1 and 2.0 is the base of ConvLSTM2D",
    "ParametricSoftplus": "of Keras 1 is a softplus with two weights for each input",
    "SReLU": "of Keras 1 is a line of three parts with four weights for each input",
    "TimeDistributedDense": "of Keras 1 is what TimeDistributed(Dense(...)) is since",
    "InstanceMethod": "of tf.keras 2.3 to 2.15 calls a method of a tensor",
    "InstanceProperty": "of tf.keras 2.3 to 2.15 reads a property of a tensor",
    "ClassMethod": "of tf.keras 2.3 to 2.15 calls a method of a class of tensors",
}
