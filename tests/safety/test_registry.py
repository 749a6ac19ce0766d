"""The table of operations, held against what TensorFlow registers."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping

import pytest
import tensorflow as tf

from exporter.saving.safety.graphs.loading import RESERVED
from exporter.saving.safety.graphs.registry import read_registry

pytestmark = pytest.mark.xdist_group("safety")

# What TensorFlow itself calls while it loads has these at least: an object, and a resource.
TRACKABLE = (tf.__internal__.tracking.AutoTrackable, tf.saved_model.experimental.TrackableResource)
# A resource's own functions are in the file.
RESOURCE = {"_create_resource", "_destroy_resource", "_initialize"}


_PROGRAM = """
import json, runpy
import tensorflow_text
from exporter.saving.safety.graphs import registry
print(json.dumps(registry.list_registered()))
runpy.run_path(registry.__file__, run_name="__main__")
"""


@pytest.fixture(scope="module")
def printed() -> tuple[str, str]:
    """What a fresh process prints, in which no test has registered an operation: the operations, and the review."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    operations, _, review = done.stdout.partition("\n")
    return operations, review


@pytest.fixture(scope="module")
def registered(printed: tuple[str, str]) -> Mapping[str, bool]:
    """The operations of TensorFlow and TensorFlow Text, and whether each is stateful."""
    operations: Mapping[str, bool] = json.loads(printed[0])
    return operations


def test_every_operation_stands_in_one_family(registered: Mapping[str, bool]) -> None:
    table = read_registry()
    counted = Counter(operation for family in table.families for operation in family.operations)

    assert [name for name, count in counted.items() if count > 1] == []
    assert table.find_unlisted(registered) == []
    assert sorted(counted.keys() - registered.keys()) == []


def test_a_family_has_a_reason_and_one_with_state_another(registered: Mapping[str, bool]) -> None:
    for family in read_registry().families:
        assert family.reason
        is_stateful = any(registered[name] for name in family.operations)
        assert bool(family.state) == (family.is_allowed and is_stateful), family.name


def test_what_runs_at_load_is_allowed_and_holds_no_loop() -> None:
    table = read_registry()
    loops = {"If", "Case", "While", "For", "Switch", "Merge", "Enter", "StatelessIf", "StatelessCase", "StatelessWhile"}

    assert all(table.family_of[name].is_allowed for name in table.initialising)
    assert not table.initialising & loops


def test_the_review_lists_what_tensorflow_gains(printed: tuple[str, str]) -> None:
    assert read_registry().find_unlisted(["MatMul", "ReadFile", "GainedB", "GainedA"]) == ["GainedA", "GainedB"]
    assert printed[1] == "\n"


def test_the_reserved_names_are_those_of_tensorflows_objects() -> None:
    own = {name for kind in TRACKABLE for name in dir(kind) if not hasattr(object, name) and not name.startswith("__")}
    private = {name for name in own if name.startswith("_")} - RESOURCE

    assert private <= RESERVED, sorted(private - RESERVED)
