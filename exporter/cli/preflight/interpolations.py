"""Interpolations of a recipe: what they may call and read, and how much they may grow.

OmegaConf resolves each reference anew: ten of them in one value, nine values deep, stand for a thousand million. So
every reference and every call of a resolver is counted while a recipe is read, and so is the length of what they give.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from exporter.cli import hydra_private

MAX_REFERENCES: Final = 10_000
MAX_CHARACTERS: Final = 1 << 18
MAX_VALUES: Final = 1 << 18

# Of a stranger's recipe, whose text is parsed before it is read: characters in one value and in all, and brackets
# inside each other.
_MAX_LENGTH = 4_096
_MAX_TOTAL = 1 << 16
_MAX_DEPTH = 20

# What a stranger's recipe may call. `oc.decode` makes a number of the text that a variable holds; it reads nothing.
_RESOLVERS = ("exporter.name", "exporter.suffix", "exporter.variant", "oc.decode", "oc.env")

# The variables of the environment that a stranger's recipe may read; None where the recipe is the user's own.
_allowed_variables: Collection[str] | None = None


class Budget:
    """What is left for the interpolations of one recipe."""

    def __init__(self) -> None:
        """Begins with all of it."""
        self._references = MAX_REFERENCES
        self._characters = MAX_CHARACTERS
        self._values = MAX_VALUES

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return min(self._references, self._characters, self._values) < 0

    def exhaust(self) -> None:
        """Leaves nothing."""
        self._references = -1

    def count_value(self) -> None:
        """Counts a value of the recipe: a reference to a mapping or a list stands for all that is in it."""
        if self._references < MAX_REFERENCES:
            self._values -= 1
        self.check()

    def spend(self, value: Any) -> None:
        """Counts a reference or a call, and what it gave."""
        value = hydra_private.read_scalar(value)
        self._references -= 1
        self._characters -= len(value) if isinstance(value, str | bytes) else 0
        self.check()

    def check(self) -> None:
        """Raises an error where nothing is left."""
        if self.is_spent:
            raise InterpolationResolutionError(
                f"the interpolations of the recipe stand for more than {MAX_REFERENCES:,} values, or for more than "
                f"{MAX_CHARACTERS:,} characters; write the values themselves"
            )


@contextmanager
def bounded() -> Iterator[Budget]:
    """Lets interpolations that are resolved inside the block grow no further than a recipe needs.

    Yields:
        What is left for them.
    """
    budget = Budget()

    def count(resolve: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        budget.check()
        value = resolve(*arguments, **named)
        budget.spend(value)
        return value

    with hydra_private.resolution_replaced(refer=count, call=count):
        yield budget


@contextmanager
def only_variables(names: Collection[str]) -> Iterator[None]:
    """Takes the recipes that are read inside the block for a stranger's.

    They read no other variables of the environment, call only what computes, and see nothing but themselves.

    Args:
        names: The variables that they may read.
    """
    global _allowed_variables
    former, _allowed_variables = _allowed_variables, names
    try:
        yield
    finally:
        _allowed_variables = former


@contextmanager
def watched() -> Iterator[list[str]]:
    """Lists the variables of the environment that are read inside the block, and holds a stranger's recipe to its own.

    Yields:
        The names so far, in order.
    """
    names: list[str] = []

    def read(name: str, *default: Any) -> Any:
        names.append(name)
        if _allowed_variables is not None and name not in _allowed_variables:
            raise ValueError(f"it reads the environment variable {name}; to let it: --environment {name}")
        return oc.env(name, *default)

    def call_if_allowed(
        call: Callable[..., Any], config: Any, key: Any, node: Any, inter_type: str, *arguments: Any, **named: Any
    ) -> Any:
        if _allowed_variables is not None and inter_type not in _RESOLVERS:
            allowed = ", ".join(_RESOLVERS)
            raise ValueError(f"a recipe inside an artifact calls no {inter_type}; allowed: {allowed}; write the value")
        return call(config, key, node, inter_type, *arguments, **named)

    with hydra_private.resolvers_kept(), hydra_private.resolution_replaced(call=call_if_allowed):
        OmegaConf.register_new_resolver("oc.env", read, replace=True)
        yield names


def leave_hydra_out(composed: DictConfig) -> DictConfig:
    """Gives a recipe that a stranger wrote without Hydra's own settings, which tell about the machine.

    Args:
        composed: What Hydra composed.

    Returns:
        A copy; the config itself where it is the user's own.
    """
    if _allowed_variables is None or "hydra" not in composed:
        return composed
    alone = composed.copy()
    with open_dict(alone):
        del alone["hydra"]
    return alone


def find_too_long(texts: Collection[tuple[str, str]]) -> str | None:
    """Finds the interpolation of a stranger's recipe that would be too long to be parsed.

    Args:
        texts: The dotted path and the text of every value.

    Returns:
        What is wrong; None where nothing is.
    """
    total = 0
    for path, text in texts:
        if "${" not in text:
            continue
        total += len(text)
        depth = deepest = 0
        for character in text:
            depth += (character in "{[(") - (character in "}])")
            deepest = max(deepest, depth)
        if len(text) > _MAX_LENGTH or deepest > _MAX_DEPTH or total > _MAX_TOTAL:
            return (
                f"{path} has an interpolation of {len(text):,} characters and {deepest} brackets inside each other; at "
                f"most {_MAX_LENGTH:,} and {_MAX_DEPTH} are read, and {_MAX_TOTAL:,} characters of all of them"
            )
    return None
