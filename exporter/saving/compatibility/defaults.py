"""Leaves out of a configuration what is at its default and an older Keras would refuse."""

from exporter.saving.compatibility.history import OLDEST_TRIED, name_class, read_releases
from exporter.saving.layout.documents import list_mappings
from exporter.typing.structures import JSON

# What a constructor makes of its default, None. That of `data_format` is not here: it is a setting of the process.
_SETTLED = {"ragged": False}

# Where every class was tried: that it comes back the same without them. A quantizer, for one, does not.
TRIED = ("keras.layers.", "keras.optimizers.", "keras.losses.", "keras.metrics.", "keras.initializers.")


def leave_out_new_defaults(config: JSON) -> None:
    """Removes the arguments that the oldest release lacks which was tried, where they have their defaults.

    Keras refuses an argument that it does not know, whatever its value is.

    Args:
        config: Of a model; it is changed.
    """
    releases = read_releases()
    for node in list_mappings(config):
        name, arguments = name_class(node) or "", node.get("config")
        defaults = releases.defaults.get(name, {}) if name.startswith(TRIED) else {}
        if isinstance(arguments, dict):
            for key in arguments.keys() & defaults.keys():
                value, default = arguments[key], _SETTLED.get(key, defaults[key])
                is_new = releases.since[name][key] > OLDEST_TRIED
                if is_new and type(value) is type(default) and value == default:
                    del arguments[key]
