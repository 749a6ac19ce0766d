"""What `tf.saved_model.save` takes, from what a recipe says about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from exporter.config import OptionsConfig, Sharding, SignatureConfig, TensorConfig, VariablePolicy
from exporter.errors import Fault, UsageError
from exporter.predictions import Predictor
from exporter.saving.contents import SERVING_DEFAULT
from exporter.saving.signatures import Inputs, describe_inputs, make_call, name_outputs


def build_save_options(
    options: OptionsConfig, signatures: Mapping[str, Callable[..., Any]] | None = None
) -> tf.saved_model.SaveOptions:
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
    return tf.saved_model.SaveOptions(
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


def declare_aliased(options: OptionsConfig) -> dict[str, SignatureConfig]:
    """Declares the model's own endpoint for an alias, which TensorFlow wants with the function that it stands for.

    Args:
        options: The recipe's, where it declares no endpoint.

    Returns:
        The declarations: none unless there is an alias.
    """
    return {SERVING_DEFAULT: SignatureConfig()} if options.function_aliases else {}


def _build_sharding(options: OptionsConfig) -> Any:
    sharding = options.experimental_sharding_callback
    if sharding.policy is None:
        return None
    if sharding.policy is Sharding.SHARD_BY_TASK:
        return tf.train.experimental.ShardByTaskPolicy()
    return tf.train.experimental.MaxShardSizePolicy(sharding.max_shard_size)


def build_signatures(
    model: keras.Model, signatures: Mapping[str, SignatureConfig]
) -> dict[str, Callable[..., Any]] | None:
    """Makes the endpoints that a recipe declares.

    Args:
        model: The built model.
        signatures: Name -> declaration.

    Returns:
        Name -> `tf.function` with an input signature; None where nothing is declared, which gives
        `serving_default` with the model's own names.

    Raises:
        UsageError: A declaration does not fit the model; every fault is named.
    """
    if not signatures:
        return None
    inputs = describe_inputs(model)
    faults = [fault for name, declared in signatures.items() for fault in _find_faults(model, inputs, name, declared)]
    if faults:
        raise UsageError(faults)
    return {name: _build_endpoint(model, inputs, declared) for name, declared in signatures.items()}


def _find_faults(model: keras.Model, inputs: Inputs, name: str, declared: SignatureConfig) -> list[Fault]:
    faults = []
    if declared.method != "predict":
        faults.append(Fault(f"signatures.{name}.method", f"received {declared.method!r}. Allowed: predict."))
    for key in ("preprocess", "postprocess"):
        if getattr(declared, key):
            faults.append(Fault(f"signatures.{name}.{key}", "nothing can run around the model yet. Leave it empty."))
    leaves = {leaf.name: leaf for leaf in inputs.leaves}
    for key, tensor in declared.inputs.items():
        path = f"signatures.{name}.inputs.{key}"
        if key not in leaves:
            faults.append(Fault(path, f"the model has no such input. Its inputs: {', '.join(leaves)}."))
            continue
        leaf = leaves[key]
        if tensor.shape is not None and not _narrows(tensor.shape, leaf.shape):
            message = f"received {tensor.shape}, which does not fit the model's {list(leaf.shape)}."
            faults.append(Fault(f"{path}.shape", message.replace("None", "null")))
        if tensor.dtype not in (None, leaf.dtype):
            faults.append(Fault(f"{path}.dtype", f"received {tensor.dtype!r}. The model takes {leaf.dtype!r}."))
    if declared.outputs:
        names = Predictor(model, inputs).describe_outputs()
        for output in declared.outputs:
            if output not in names:
                message = f"the model has no output {output!r}. Its outputs: {', '.join(names)}."
                faults.append(Fault(f"signatures.{name}.outputs", message))
    return faults


def _narrows(shape: Sequence[int | None], own: Sequence[int | None]) -> bool:
    return len(shape) == len(own) and all(want is None or want == have for want, have in zip(own, shape, strict=True))


def _build_endpoint(model: keras.Model, inputs: Inputs, declared: SignatureConfig) -> Callable[..., Any]:
    specifications = []
    for leaf in inputs.leaves:
        tensor = declared.inputs.get(leaf.name, TensorConfig())
        shape = leaf.shape if tensor.shape is None else tensor.shape
        specifications.append(replace(leaf, shape=tuple(shape)).to_spec())
    call = make_call(model, inputs)

    def predict(*leaves: Any) -> dict[str, Any]:
        outputs = name_outputs(model, call(*leaves))
        return {name: outputs[name] for name in declared.outputs or outputs}

    endpoint: Callable[..., Any] = tf.function(predict, input_signature=specifications, autograph=False)
    return endpoint
