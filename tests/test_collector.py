"""The garbage collector during an import."""

import gc
from collections.abc import Iterator

import pytest

from exporter._collector import collector_paused


@pytest.fixture(autouse=True)
def collector_enabled() -> Iterator[None]:
    yield
    gc.enable()


def fail_inside() -> None:
    with collector_paused():
        assert not gc.isenabled()
        raise ImportError


@pytest.mark.parametrize("was_enabled", [True, False], ids=["on before", "off before"])
def test_it_is_off_inside_and_as_before_afterwards(was_enabled: bool) -> None:
    if not was_enabled:
        gc.disable()
    with pytest.raises(ImportError):
        fail_inside()
    assert gc.isenabled() == was_enabled
