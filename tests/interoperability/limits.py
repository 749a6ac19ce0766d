"""What other software cannot do with any SavedModel, ours or not, and what to do instead.

The remedies are tested: each is another way, or another endpoint, that computes the right numbers.
"""

from dataclasses import dataclass

from .cases import DIGITS, RECOGNIZE, SENTENCES, WORDS, Case


@dataclass(frozen=True, slots=True)
class Limit:
    """A way that is closed for a case.

    Attributes:
        consumer: Whose way it is.
        way: The name of the way.
        case: What it cannot open.
        error: What it says.
        reason: Why.
        remedy: What to do instead.
    """

    consumer: str
    way: str
    case: Case
    error: str
    reason: str
    remedy: str


LIMITS = (
    Limit(
        "litert",
        "litert_all",
        DIGITS,
        "TF Select ops: BitwiseAnd, BroadcastGradientArgs, Conv2DBackpropFilter, MaxPoolGrad, ReluGrad, "
        "SparseSoftmaxCrossEntropyWithLogits, StatelessRandomGetKeyCounter, StatelessRandomUniformV2",
        "the converter takes all endpoints unless it is told which, and LiteRT has no operations for gradients",
        "the argument `signature_keys`",
    ),
    Limit(
        "litert",
        "litert",
        SENTENCES,
        "TF Select ops: RaggedTensorToTensor, StaticRegexReplace, StringLower, StringSplitV2",
        "LiteRT has operations for vocabularies, and none that split a text",
        "an endpoint that takes words or token ids",
    ),
    Limit(
        "litert",
        "litert_select_ops",
        SENTENCES,
        "Select TensorFlow op(s), included in the given model, is(are) not supported by this interpreter.",
        "neither TensorFlow's wheel nor LiteRT's has the Flex delegate, which runs TensorFlow's own operations",
        "an endpoint that takes words or token ids, or an application that links the delegate",
    ),
    Limit(
        "onnx_runtime",
        "onnx",
        SENTENCES,
        "Error No Op registered for StaticRegexReplace",
        "ONNX has no operation that replaces in a text",
        "onnxruntime-extensions, which has it, or an endpoint that takes words or token ids",
    ),
    Limit(
        "openvino_runtime",
        "openvino",
        SENTENCES,
        "No conversion rule found for operations: RaggedTensorToTensor, StaticRegexReplace, StringLower, StringSplitV2",
        "OpenVINO itself has no text operations",
        "openvino_tokenizers, which has them",
    ),
    Limit(
        "openvino_runtime",
        "openvino",
        WORDS,
        "Conversion is failed for: HashTableV2, LookupTableFindV2",
        "OpenVINO itself has no vocabularies of text",
        "openvino_tokenizers, which has them",
    ),
    Limit(
        "openvino_runtime",
        "openvino_by_name",
        RECOGNIZE,
        "Name recognize_pixels:0 is not found among model inputs.",
        "OpenVINO reads no other endpoint of a directory than `serving_default`",
        "`openvino.convert_model(tf.saved_model.load(path).signatures[name])`",
    ),
)
