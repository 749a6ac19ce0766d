"""What is found while the configuration of an older model is translated: losses and faults, told all at once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from exporter.errors import ArtifactError
from exporter.text.printable import escape


class LeftOutWarning(UserWarning):
    """Something of the file has no counterpart in Keras 3, and the model is without it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is found in one configuration.

    Attributes:
        version: The version of Keras that wrote it, such as `2.15.0`.
        lost: What the model is without.
        faults: What cannot be translated.
    """

    version: str = "2"
    lost: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_old(self) -> bool:
        """Whether it is from before Keras 3."""
        return not self.version.startswith("3")

    def tell(self, what: str, remedy: str) -> None:
        """Warns of every loss once.

        Args:
            what: What cannot be translated, if there are faults.
            remedy: What to do about them.

        Raises:
            ArtifactError: There are faults.
        """
        if self.faults:
            raise ArtifactError(f"{what}:", *(f"  {fault}." for fault in dict.fromkeys(self.faults)), remedy)
        for loss in dict.fromkeys(self.lost):
            warn_of_loss(loss)


@contextmanager
def losses_collected(told: list[str]) -> Iterator[None]:
    """Collects what is warned of inside, for whoever says it in another way; other warnings stay what they are.

    Args:
        told: Is extended by each loss once.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeftOutWarning)
        yield
    for each in caught:
        if not issubclass(each.category, LeftOutWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno, source=each.source)
        elif str(each.message) not in told:
            told.append(str(each.message))


@contextmanager
def damage_told(what: str) -> Iterator[None]:
    """Makes an ArtifactError of what Python raises while a configuration of another shape is read.

    Args:
        what: The configuration.

    Raises:
        ArtifactError: It is damaged.
    """
    try:
        yield
    except ArtifactError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is damaged: {type(error).__name__}: {str(error)[:200]}.") from error


def warn_of_loss(loss: str) -> None:
    """Warns of one thing that the model is without."""
    warnings.warn(escape(loss), LeftOutWarning, stacklevel=2)
