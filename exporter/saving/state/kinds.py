"""What kind of thing a variable is, by its path in the state. It needs neither TensorFlow nor Keras."""

import re
from collections.abc import Collection
from enum import StrEnum

# Where Keras holds the optimizer that a model was compiled with.
OPTIMIZER = "optimizer"
# Where the values stand that the replicas of a distributed model hold apart from each other.
REPLICAS = "replicas"

# A model may have an attribute of that name too; what it holds is never called by a number.
_REPLICA = re.compile(rf"{REPLICAS}/\d+/.")

# The state of a generator: ours (`seed_generators/0`), or as TensorFlow and Keras name it in files of their own.
_RANDOM = re.compile(r"(^|/)(_?seed_generators?(_\d+)?/(\d+|state|seed_generator_state)|seed_generator_state(_\d+)?)$")


class Kind(StrEnum):
    """A kind of variables."""

    WEIGHTS = "weights"
    OPTIMIZER = "optimizer"
    RANDOM = "random state"
    REPLICAS = "values of replicas"
    TABLES = "lookup tables"


def find_kind(path: str, optimizers: Collection[str] = ()) -> Kind:
    """Returns the kind of a variable.

    Args:
        path: Its path in the state.
        optimizers: The addresses of the optimizers beside the one that the model was compiled with, or of all:
            `State.optimizers` and `StateRecord.optimizers` have them.
    """
    if is_replica_state(path):
        return Kind.REPLICAS
    owners = (OPTIMIZER, *optimizers)
    # TensorFlow itself reaches the weights through the optimizer that trains them.
    if is_below(path, owners) and not is_below(path, [f"{owner}/_trainable_variables" for owner in owners]):
        return Kind.OPTIMIZER
    return Kind.RANDOM if _RANDOM.search(path) else Kind.WEIGHTS


def is_replica_state(path: str) -> bool:
    """Returns whether a path is that of one replica's value, beside the one value that the state has."""
    return _REPLICA.match(path) is not None


def is_below(path: str, addresses: Collection[str]) -> bool:
    """Returns whether something belongs to one of the objects at these addresses.

    Args:
        path: Its own path.
        addresses: Of the objects.
    """
    return any(path.startswith(f"{address}/") for address in addresses)


def list_outermost(addresses: Collection[str]) -> list[str]:
    """Returns the optimizers that are not part of another one, as the one inside a loss scale optimizer is."""
    return [address for address in addresses if not is_below(address, addresses)]
