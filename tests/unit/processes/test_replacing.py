"""Methods of other libraries that are replaced for a while."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from exporter.processes.replacing import replaced


class Parent:
    def say(self) -> str:
        return "parent"


class Child(Parent):
    @classmethod
    def name(cls) -> str:
        return cls.__name__


def add(text: str) -> Callable[[Any], Any]:
    return lambda former: lambda self: f"{text}({former(self)})"


FIRST, SECOND = add("first"), add("second")


def test_a_method_is_replaced_where_it_is_defined_and_is_as_before_when_the_block_is_left() -> None:
    before = vars(Parent)["say"]
    said = []
    with suppress(KeyError), replaced(Child, "say", FIRST):
        said += [Parent().say(), Child().say()]
        raise KeyError
    assert said == ["first(parent)"] * 2
    assert "say" not in vars(Child)
    assert vars(Parent)["say"] is before


@pytest.mark.parametrize("order", [pytest.param((0, 1), id="first"), pytest.param((1, 0), id="last")])
def test_blocks_that_overlap_may_end_in_any_order(order: tuple[int, int]) -> None:
    before = vars(Parent)["say"]
    stacks = [ExitStack(), ExitStack()]
    stacks[0].enter_context(replaced(Parent, "say", FIRST))
    stacks[1].enter_context(replaced(Parent, "say", SECOND))
    assert Parent().say() == "second(first(parent))"
    stacks[order[0]].close()
    assert Parent().say() == ("second(parent)", "first(parent)")[order[0]]
    stacks[order[1]].close()
    assert vars(Parent)["say"] is before


def test_a_block_inside_of_the_same_replaces_nothing_more() -> None:
    with replaced(Parent, "say", FIRST):
        with replaced(Parent, "say", SECOND):
            with replaced(Parent, "say", FIRST):
                assert Parent().say() == "second(first(parent))"
            assert Parent().say() == "second(first(parent))"
        assert Parent().say() == "first(parent)"
    assert Parent().say() == "parent"


@pytest.mark.parametrize("outermost_first", [True, False], ids=["outside", "inside"])
def test_the_outermost_is_called_first_whichever_block_was_opened_first(outermost_first: bool) -> None:
    with ExitStack() as stack:
        for is_outermost in (outermost_first, not outermost_first):
            make = FIRST if is_outermost else SECOND
            stack.enter_context(replaced(Parent, "say", make, outermost=is_outermost))
        assert Parent().say() == "first(second(parent))"


def test_threads_that_come_and_go_leave_the_method_as_it_was() -> None:
    before = vars(Parent)["say"]
    seen: list[str] = []

    def work(make: Callable[[Any], Any]) -> None:
        for _ in range(200):
            with replaced(Parent, "say", make):
                seen.append(Parent().say())

    threads = [threading.Thread(target=work, args=(make,)) for make in (FIRST, SECOND, FIRST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= {"first(parent)", "second(parent)", "first(second(parent))", "second(first(parent))"}
    assert vars(Parent)["say"] is before


def test_a_method_of_a_class_stays_one() -> None:
    before = vars(Child)["name"]
    with replaced(Child, "name", lambda former: classmethod(lambda cls: f"a {former.__get__(None, cls)()}")):
        assert Child.name() == "a Child"
    assert vars(Child)["name"] is before


def test_a_method_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"^Parent has no attribute 'shout'$"), replaced(Parent, "shout", FIRST):
        pass
