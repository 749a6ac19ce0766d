"""What `tf.saved_model.save` takes, from what a recipe says about it."""

from collections.abc import Mapping

import tensorflow as tf

from exporter.config import OptionsConfig, Sharding, SignatureConfig, VariablePolicy
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.graph.inputs import describe_inputs
from exporter.typing.keras import Model
from exporter.typing.tensorflow import ConcreteFunction, SaveOptions


def build_save_options(options: OptionsConfig, signatures: Mapping[str, ConcreteFunction] | None = None) -> SaveOptions:
    """Makes TensorFlow's options of a recipe's.

    An empty `namespace_whitelist` is given as such: TensorFlow then refuses custom operations, while without any
    list it would save them all and leave it to the reader to fail.

    Args:
        options: The recipe's, checked.
        signatures: The declared endpoints, which aliases name.

    Returns:
        The options.
    """
    declared = signatures or {}
    policy = options.experimental_variable_policy
    made: SaveOptions = tf.saved_model.SaveOptions(
        namespace_whitelist=list(options.namespace_whitelist),
        save_debug_info=options.save_debug_info,
        function_aliases={alias: declared[endpoint] for alias, endpoint in options.function_aliases.items()},
        experimental_debug_stripper=options.experimental_debug_stripper,
        experimental_io_device=options.experimental_io_device,
        experimental_variable_policy=None if policy in (None, VariablePolicy.NONE) else str(policy),
        experimental_custom_gradients=options.experimental_custom_gradients,
        experimental_image_format=options.experimental_image_format,
        experimental_skip_saver=options.experimental_skip_saver,
        experimental_sharding_callback=_build_sharding(options),
        extra_tags=list(options.extra_tags),
    )
    return made


def declare_default(model: Model, options: OptionsConfig, must_exist: bool = False) -> dict[str, SignatureConfig]:
    """Declares the model's own endpoint where TensorFlow cannot be left to make it.

    An alias needs the function that it stands for. A sparse tensor is served as dense ones, which no server or client
    would find under the names that TensorFlow gives them by itself.

    Args:
        model: The model of a SavedModel for which no endpoint is declared.
        options: The recipe's.
        must_exist: Whether it is declared in any case.

    Returns:
        The declarations; mostly none.
    """
    takes_sparse = any(leaf.sparse for leaf in describe_inputs(model).leaves)
    return {SERVING_DEFAULT: SignatureConfig()} if must_exist or options.function_aliases or takes_sparse else {}


def _build_sharding(options: OptionsConfig) -> object:
    sharding = options.experimental_sharding_callback
    if sharding.policy is None:
        return None
    if sharding.policy is Sharding.SHARD_BY_TASK:
        return tf.train.experimental.ShardByTaskPolicy()
    return tf.train.experimental.MaxShardSizePolicy(sharding.max_shard_size)
