"""The dtype policies of layers: each layer's own, whatever way it came to it.

KerasHub builds a quantized model with one map of policies that all of its layers share, and looks a layer's own up in
it by the layer's path. Here every layer has its own, as in the model that was quantized.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras

from exporter.typing.keras import DTypePolicy, Layer, Model
from exporter.typing.structures import Config

PolicyMap = keras.dtype_policies.DTypePolicyMap

_PLAIN = (keras.dtype_policies.DTypePolicy, keras.dtype_policies.FloatDTypePolicy)


def find_policy(layer: Layer) -> DTypePolicy:
    """Returns the policy that a layer goes by: of a map, the one that is for it."""
    policy = layer.dtype_policy
    if isinstance(policy, PolicyMap):
        policy = policy[layer.path] if layer.path else policy.default_policy
    return policy


def describe_policy(layer: Layer) -> Config | str:
    """Returns a layer's policy as plain data: a name, or a configuration."""
    policy = find_policy(layer)
    return policy.name if type(policy) in _PLAIN else keras.dtype_policies.serialize(policy)


def separate_policies(targets: Iterable[Layer]) -> None:
    """Gives each layer that shares a map of policies its own out of it."""
    for layer in targets:
        if isinstance(layer.dtype_policy, PolicyMap):
            # The setter would change the map that the layers share.
            layer._dtype_policy = find_policy(layer)


@contextmanager
def own_policy(layer: Layer) -> Iterator[None]:
    """Lets a layer that shares a map of policies have its own, as Keras's code for saving a quantized layer expects."""
    shared = layer.dtype_policy
    layer._dtype_policy = find_policy(layer)
    try:
        yield
    finally:
        layer._dtype_policy = shared


@contextmanager
def policies_kept(model: Model) -> Iterator[None]:
    """Keeps the layers' policies as they are while the model's configuration is made.

    A map of policies without a default takes the names of the policies in it away when it is serialized; those are the
    very objects that the layers have.

    Args:
        model: The model.
    """
    named = [(vars(policy), dict(vars(policy))) for policy in _list_policies(model)]
    try:
        yield
    finally:
        for attributes, names in named:
            attributes.update(names)


def complete_policy_maps(config: Config, model: Model) -> None:
    """Writes into a model's configuration what its maps of policies leave to the settings of whoever loads it.

    Args:
        config: The configuration, which is changed.
        model: The model.
    """
    if not any(layer.quantization_mode is not None for layer in model._flatten_layers()):
        return
    known = {(type(layer).__name__, layer.name): layer for layer in model._flatten_layers()}
    pending: list[object] = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.values()
            inner = node.get("config")
            if isinstance(inner, dict) and (str(node.get("class_name")), inner.get("name")) in known:
                policy = inner.get("dtype")
                if isinstance(policy, dict) and policy.get("class_name") == PolicyMap.__name__:
                    _complete_map(policy["config"], known[str(node["class_name"]), inner["name"]])
        elif isinstance(node, (list, tuple)):
            pending += node


def _complete_map(config: Config, owner: Layer) -> None:
    if config["default_policy"] is None:
        config["default_policy"] = find_policy(owner).name
    policies = {layer.path: find_policy(layer) for layer in owner._flatten_layers() if layer.path}
    for path in config["policy_map"]:
        if path in policies:
            config["policy_map"][path] = keras.dtype_policies.serialize(policies[path])


def _list_policies(model: Model) -> Iterator[DTypePolicy]:
    for layer in model._flatten_layers():
        policy = layer.dtype_policy
        if isinstance(policy, PolicyMap):
            yield policy.default_policy
            yield from policy.values()
        elif policy.quantization_mode is not None:
            yield policy
