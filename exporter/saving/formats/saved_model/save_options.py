"""The rules of `tf.saved_model.SaveOptions` that TensorFlow checks late, or not at all.

What can be said without TensorFlow is said by functions that do not import it: a recipe asks them before it runs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from exporter.errors import ArgumentError, ModelError
from exporter.text.showing import describe_value
from exporter.typing.tensorflow import ConcreteFunction, SaveOptions

# The part of TensorFlow's grammar of op names that stands before `>`.
_NAMESPACE = re.compile(r"[A-Z][A-Za-z0-9_]*")
_DEVICE_PART = re.compile(
    r"(job):[A-Za-z]\w*|(replica|task):\d+|(device):[A-Za-z]\w*:(?:\d+|\*)|[CcGg][Pp][Uu](?::(?:\d+|\*))?"
)


def explain_namespace(namespace: str) -> str | None:
    """Says what is wrong with an entry of `namespace_whitelist`, or gives None."""
    before = namespace.partition(">")[0]
    if _NAMESPACE.fullmatch(namespace):
        return None
    expected = before if _NAMESPACE.fullmatch(before) else "a name with a capital letter first, such as Addons"
    return f"received {describe_value(namespace)}; expected the part of an operation's name before its '>': {expected}"


def explain_tags(tags: Sequence[str]) -> str | None:
    """Says what is wrong with `extra_tags`, or gives None."""
    if "" in tags:
        return "received an empty tag; leave it out"
    if "serve" in tags:
        return "received 'serve', which every SavedModel has; leave it out"
    repeated = sorted({tag for tag in tags if tags.count(tag) > 1})
    return f"received {', '.join(map(describe_value, repeated))} more than once; once is enough" if repeated else None


def explain_device(device: str) -> str | None:
    """Says what is wrong with the name of a device, or gives None; see `tf.DeviceSpec.from_string`."""
    matches = [_DEVICE_PART.fullmatch(part) for part in device.removeprefix("/").split("/")]
    kinds = ["device" if match is None else next(filter(None, match.groups()), "device") for match in matches]
    if all(matches) and len(set(kinds)) == len(kinds):
        return None
    expected = "a device such as /job:localhost or /job:worker/task:1/device:CPU:0"
    return f"received {describe_value(device)}; expected {expected}"


def keeps_replicas(options: SaveOptions) -> bool:
    """Returns whether every replica's variables of a distributed model are written, on devices of their own."""
    return bool(options.experimental_variable_policy._expand_distributed_variables())


def check_save_options(options: SaveOptions) -> None:
    """Checks what TensorFlow would only stumble on while it writes.

    Args:
        options: The options; what their own constructor checks is right.

    Raises:
        ArgumentError: An option cannot be used; every fault is named.
    """
    faults = [f"`{name}`: {message}." for name, message in _find_faults(options)]
    if faults:
        more = [f"and {len(faults) - 3} more."] if len(faults) > 3 else []
        raise ArgumentError("`options` cannot be used.", *faults[:3], *more)


def _find_faults(options: SaveOptions) -> Iterator[tuple[str, str]]:
    import tensorflow as tf

    tags = options.extra_tags
    if tags is not None:
        if not isinstance(tags, (list, tuple)) or not all(isinstance(tag, str) for tag in tags):
            yield "extra_tags", f"received {describe_value(tags)}; expected a list of texts"
        elif message := explain_tags(tags):
            yield "extra_tags", message
    functions = (tf.types.experimental.ConcreteFunction, tf.types.experimental.PolymorphicFunction)
    aliases = options.function_aliases
    if not isinstance(aliases, Mapping):
        yield "function_aliases", f"received {describe_value(aliases)}; expected a dict of names and functions"
    else:
        for alias, function in aliases.items():
            members = function if isinstance(function, (list, tuple)) else [function]
            if not isinstance(alias, str) or not members or not all(isinstance(each, functions) for each in members):
                received = f"received {describe_value(alias)}: {describe_value(function)}"
                yield "function_aliases", f"{received}; expected a name and a tf.function or a concrete function"
    if (device := options.experimental_io_device) is not None and (message := _find_device_fault(device)):
        yield "experimental_io_device", message


def _find_device_fault(device: object) -> str | None:
    import tensorflow as tf

    if not isinstance(device, str):
        return f"received {describe_value(device)}; expected the name of a device"
    if message := explain_device(device):
        return message
    asked = tf.DeviceSpec.from_string(device)
    parts = ("job", "replica", "task", "device_type", "device_index")
    names = [each.name for each in tf.config.list_logical_devices()]
    alone = tf.DeviceSpec.from_string("/job:localhost/replica:0/task:0")  # what a name without a job leaves out
    for name in names:
        there = alone.make_merged_spec(tf.DeviceSpec.from_string(name))
        if all(getattr(asked, part) in (None, getattr(there, part)) for part in parts):
            return None
    return f"received {describe_value(device)}, and there is no such device here. Devices: {', '.join(names)}"


def check_namespaces(functions: Mapping[str, ConcreteFunction], allowed: Sequence[str] | None) -> None:
    """Finds custom operations that TensorFlow would refuse to save.

    An operation of a library other than TensorFlow's own is named `Namespace>Operation`.

    Args:
        functions: The concrete functions that will be saved, by a name for the message.
        allowed: `namespace_whitelist` of the options; None, as in TensorFlow, for all namespaces.

    Raises:
        ModelError: There are such operations; the message holds the line that allows them.
    """
    if allowed is None:
        return
    found: dict[str, str] = {}
    for place, function in functions.items():
        for operation in _list_operations(function):
            namespace, mark, _ = operation.partition(">")
            if mark and namespace not in allowed:
                found.setdefault(operation, place)
    if not found:
        return
    whitelist = [*allowed, *sorted({operation.partition(">")[0] for operation in found} - set(allowed))]
    uses = ", ".join(f"{operation} (in {place})" for operation, place in sorted(found.items()))
    raise ModelError(
        f"The model uses custom operations, which whoever loads the artifact must have registered first: {uses}. "
        "If that is meant, allow their namespaces:",
        f"  in a recipe:          options: {{namespace_whitelist: [{', '.join(whitelist)}]}}",
        f"  on the command line:  'options.namespace_whitelist=[{','.join(whitelist)}]'",
        f"  in Python:            tf.saved_model.SaveOptions(namespace_whitelist={whitelist!r})",
    )


def _list_operations(function: ConcreteFunction) -> Iterator[str]:
    """Lists the operations of a concrete function and of the functions that it calls."""
    definition = function.graph.as_graph_def()
    for node in definition.node:
        yield node.op
    for nested in definition.library.function:
        for node in nested.node_def:
            yield node.op
