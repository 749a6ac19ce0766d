"""One module for each kind of software that opens artifacts.

Each has `WAYS`: name -> a function which opens an endpoint, and the cases that it opens.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from ..cases import Case, Endpoint

# Takes the folder with all artifacts, and the case.
Open = Callable[[Path, Case], Endpoint]
Ways = Mapping[str, tuple[Open, tuple[Case, ...]]]
