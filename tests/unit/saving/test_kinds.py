"""What kind of thing a variable is, by its path."""

import pytest

from exporter.saving.state.kinds import Kind, find_kind, list_outermost


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("layers/dense/vars/0", Kind.WEIGHTS),
        ("optimizer/vars/3", Kind.OPTIMIZER),
        ("optimizer/inner_optimizer/vars/0", Kind.OPTIMIZER),
        ("optimizer/_iterations", Kind.OPTIMIZER),
        ("optimizer/_trainable_variables/0", Kind.WEIGHTS),
        ("optimizers/vars/3", Kind.WEIGHTS),
        ("layers/optimizer/vars/0", Kind.WEIGHTS),
        ("d_optimizer/vars/3", Kind.OPTIMIZER),
        ("layers/gan/g_optimizer/vars/1", Kind.OPTIMIZER),
        ("layers/gan/generator/vars/1", Kind.WEIGHTS),
        ("layers/dropout/seed_generators/0", Kind.RANDOM),
        ("seed_generators/0", Kind.RANDOM),
        ("layers/0/seed_generator/state", Kind.RANDOM),
        ("dropout/seed_generator_1/seed_generator_state", Kind.RANDOM),
        ("layers/seed_generator/vars/0", Kind.WEIGHTS),
        ("replicas/dense/vars/0", Kind.WEIGHTS),
        ("replicas/1/layers/batch_normalization/vars/2", Kind.REPLICAS),
    ],
)
def test_the_kind_of_a_path(path: str, kind: Kind) -> None:
    assert find_kind(path, ("d_optimizer", "layers/gan/g_optimizer")) is kind


def test_an_optimizer_that_nobody_names_holds_weights() -> None:
    assert find_kind("d_optimizer/vars/3") is Kind.WEIGHTS


def test_an_optimizer_inside_of_another_is_a_part_of_it() -> None:
    addresses = ("optimizer", "optimizer/inner_optimizer", "d_optimizer")
    assert list_outermost(addresses) == ["optimizer", "d_optimizer"]
