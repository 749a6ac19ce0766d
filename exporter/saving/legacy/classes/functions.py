"""Calls of TensorFlow functions in a graph of layers, of which Keras 2 made `TFOpLambda` and `SlicingOpLambda`.

What may be called is listed here: functions of tensors that read nothing, write nothing and take no function. They are
those of TensorFlow 2.4 to 2.15 that Keras 2 made a layer of, without the ones that do.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from exporter.typing.structures import Config

_FUNCTIONS: Mapping[str, str] = {
    "": (
        "abs acos acosh add add_n argmax argmin argsort as_string asin asinh atan atan2 atanh batch_to_space bitcast "
        "boolean_mask broadcast_to cast clip_by_norm clip_by_value complex concat convert_to_tensor cos cosh cumsum "
        "divide edit_distance eig eigvals ensure_shape equal exp expand_dims extract_volume_patches eye fill floor "
        "floor_div gather gather_nd greater greater_equal histogram_fixed_width histogram_fixed_width_bins identity "
        "less less_equal linspace logical_and logical_not logical_or matmul matrix_square_root maximum minimum "
        "multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv reduce_all reduce_any "
        "reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse "
        "reverse_sequence roll round saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape sigmoid sign "
        "sin sinh size slice sort space_to_batch space_to_batch_nd split sqrt square squeeze stack stop_gradient "
        "strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min "
        "tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv truncatediv truncatemod "
        "unique unravel_index unstack where zeros zeros_like"
    ),
    "math": (
        "abs acos acosh add add_n angle argmax argmin asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 "
        "bessel_i1e betainc bincount ceil confusion_matrix conj cos cosh count_nonzero cumprod cumsum "
        "cumulative_logsumexp digamma divide divide_no_nan equal erf erfc erfcinv erfinv exp expm1 floor floordiv "
        "floormod greater greater_equal igamma igammac imag in_top_k invert_permutation is_finite is_inf is_nan "
        "l2_normalize lbeta less less_equal lgamma log log1p log_sigmoid log_softmax logical_and logical_not "
        "logical_or logical_xor maximum minimum mod multiply multiply_no_nan ndtri negative nextafter not_equal "
        "polygamma pow real reciprocal reciprocal_no_nan reduce_all reduce_any reduce_euclidean_norm "
        "reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_std reduce_sum reduce_variance rint "
        "round rsqrt scalar_mul segment_max segment_mean segment_min segment_prod segment_sum sigmoid sign sin sinh "
        "softmax softplus softsign sqrt square squared_difference subtract tan tanh top_k truediv "
        "unsorted_segment_max unsorted_segment_mean unsorted_segment_min unsorted_segment_prod "
        "unsorted_segment_sqrt_n unsorted_segment_sum xdivy xlog1py xlogy zero_fraction zeta"
    ),
    "nn": (
        "atrous_conv2d avg_pool avg_pool1d avg_pool2d avg_pool3d batch_normalization bias_add conv1d conv1d_transpose "
        "conv2d conv2d_transpose conv3d conv3d_transpose conv_transpose convolution crelu ctc_greedy_decoder "
        "depth_to_space depthwise_conv2d dilation2d dropout elu embedding_lookup erosion2d gelu in_top_k "
        "l2_loss l2_normalize leaky_relu local_response_normalization log_poisson_loss log_softmax lrn max_pool "
        "max_pool1d max_pool2d max_pool3d max_pool_with_argmax moments pool relu relu6 selu separable_conv2d sigmoid "
        "sigmoid_cross_entropy_with_logits silu softmax softmax_cross_entropy_with_logits softplus softsign "
        "space_to_batch space_to_depth sparse_softmax_cross_entropy_with_logits swish tanh top_k "
        "weighted_cross_entropy_with_logits weighted_moments zero_fraction"
    ),
    "linalg": (
        "adjoint band_part cholesky cholesky_solve cross det diag diag_part eig eigh eigvals eigvalsh expm eye inv "
        "l2_normalize logdet lstsq lu matmul matrix_rank matrix_transpose matvec norm normalize pinv qr set_diag solve "
        "sqrtm svd tensor_diag tensor_diag_part tensordot trace triangular_solve tridiagonal_matmul tridiagonal_solve"
    ),
    "image": (
        "adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation central_crop "
        "combined_non_max_suppression convert_image_dtype crop_and_resize crop_to_bounding_box extract_glimpse "
        "extract_patches flip_left_right flip_up_down grayscale_to_rgb hsv_to_rgb image_gradients "
        "non_max_suppression non_max_suppression_padded pad_to_bounding_box per_image_standardization psnr "
        "random_brightness random_contrast random_crop random_flip_left_right random_flip_up_down random_hue "
        "random_saturation resize resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq "
        "rgb_to_yuv rot90 sobel_edges ssim ssim_multiscale total_variation transpose yiq_to_rgb yuv_to_rgb"
    ),
    "strings": (
        "as_string bytes_split join length lower ngrams reduce_join regex_full_match regex_replace split strip substr "
        "to_hash_bucket to_hash_bucket_fast to_hash_bucket_strong to_number unicode_decode unicode_encode "
        "unicode_script unicode_split unicode_transcode upper"
    ),
    "signal": (
        "dct fft fft2d fft3d fftshift frame idct ifft ifft2d ifft3d ifftshift inverse_mdct irfft irfft2d irfft3d mdct "
        "mfccs_from_log_mel_spectrograms overlap_and_add rfft rfft2d rfft3d stft"
    ),
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "random": (
        "categorical gamma normal poisson shuffle stateless_categorical stateless_gamma stateless_normal "
        "stateless_poisson stateless_truncated_normal stateless_uniform truncated_normal uniform"
    ),
    "dtypes": "cast complex saturate_cast",
    "quantization": "fake_quant_with_min_max_args fake_quant_with_min_max_vars quantize_and_dequantize_v2",
    "sparse": "bincount",
    "__operators__": "getitem",
}
_KNOWN = frozenset(f"{place}.{name}".lstrip(".") for place, names in _FUNCTIONS.items() for name in names.split())
_VERSIONS = ("compat.v1.", "compat.v2.")
# The arguments that are types, which a configuration has by name.
_TYPES = ("dtype", "out_type", "output_type")


# Keras 2 wrote no more than the first argument of these, which take any number of them.
_LEFT_OPEN = ("einsum", "meshgrid", "linalg.einsum")


def is_half_written(name: str) -> bool:
    """Tells whether the file has not all arguments of a function that Keras 2 called."""
    return name.removeprefix(_VERSIONS[0]).removeprefix(_VERSIONS[1]) in _LEFT_OPEN


def find_arguments(name: str) -> list[str] | None:
    """Lists what a function takes, by name; None where it may not be called, or is none.

    Args:
        name: The function, as Keras 2 wrote it: `math.cumsum`, `compat.v1.shape`.
    """
    function = _find(name)
    if function is None:
        return None
    if function is _slice:
        return ["first", "slice_spec"]
    return list(inspect.signature(function).parameters)


@keras.saving.register_keras_serializable("exporter")
class TensorFlowFunction(keras.Operation):
    """A call of one of the functions above.

    Args:
        function: Its name, without `tf.`.
        name: Of the node in the graph of layers.
    """

    def __init__(self, function: str, name: str | None = None) -> None:
        super().__init__(name=name)
        if _find(function) is None:
            raise ValueError(f"tf.{function} is none of the functions that a model of older Keras may call.")
        self.function = function

    def call(self, first: Any, **others: Any) -> Any:
        """Calls it.

        Args:
            first: Its first argument.
            others: The others, by name.
        """
        if not any(map(tf.is_tensor, keras.tree.flatten([first, others]))):
            raise ValueError(f"tf.{self.function} is called without a tensor.")
        types = {key: tf.as_dtype(others[key]) for key in _TYPES if isinstance(others.get(key), str)}
        function: Any = _find(self.function)
        return function(first, **{**others, **types})

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"function": self.function, "name": self.name}


def _find(name: str) -> Any:
    prefix = next((each for each in _VERSIONS if name.startswith(each)), "")
    short = name.removeprefix(prefix)
    if short not in _KNOWN:
        return None
    if short == "__operators__.getitem":
        return _slice
    for place in (tf.compat.v1,) if prefix == "compat.v1." else (tf, tf.compat.v1):
        found: Any = place
        for part in short.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None


def _slice(first: Any, slice_spec: Any) -> Any:
    return first[_to_index(slice_spec)]


def _to_index(spec: Any) -> Any:
    """Reads an index as Keras 2 wrote it: a mapping for a slice, and a text for `...`."""
    if isinstance(spec, (list, tuple)):
        return tuple(map(_to_index, spec))
    if isinstance(spec, Mapping):
        return slice(spec["start"], spec["stop"], spec["step"])
    return ... if isinstance(spec, str) else spec
