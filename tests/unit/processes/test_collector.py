"""The garbage collector during our work."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from exporter.processes.collector import collector_paused, imports_set_aside, living_set_aside


@pytest.fixture(autouse=True)
def collector_enabled() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def fail_inside(pause: Callable[[], AbstractContextManager[None]]) -> None:
    with pause():
        assert not gc.isenabled()
        raise ImportError


@pytest.mark.parametrize("pause", [collector_paused, imports_set_aside], ids=["work", "imports"])
@pytest.mark.parametrize("was_enabled", [True, False], ids=["on before", "off before"])
def test_it_is_off_inside_and_as_before_afterwards(
    was_enabled: bool, pause: Callable[[], AbstractContextManager[None]]
) -> None:
    if not was_enabled:
        gc.disable()
    with pytest.raises(ImportError):
        fail_inside(pause)
    assert gc.isenabled() == was_enabled


class Cycle:
    """Only the collector ends one."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("is_first", [True, False], ids=["first import", "TensorFlow is there"])
def test_what_the_first_import_made_is_set_aside(is_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    if not is_first:
        monkeypatch.setitem(sys.modules, "tensorflow", sys)
    with imports_set_aside():
        inside = weakref.ref(Cycle())
    later = weakref.ref(Cycle())
    gc.collect()
    assert [inside() is None, later() is None] == [not is_first, True]
    gc.unfreeze()
    gc.collect()
    assert inside() is None


def test_a_collection_passes_over_what_was_alive_before() -> None:
    before, after = Cycle(), Cycle()
    ended = [weakref.ref(before), weakref.ref(after)]
    with living_set_aside():
        inside = Cycle()
        ended.append(weakref.ref(inside))
        del before, inside
        gc.collect()
        assert [each() is None for each in ended] == [False, False, True]
    gc.collect()
    assert [each() is None for each in ended] == [True, False, True]
    assert after is ended[1]()
