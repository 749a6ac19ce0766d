"""What Keras would import for nothing is hidden from it, in our own processes alone."""

import subprocess
import sys

CODE = """
import sys
from exporter.processes.imports import claim_process, needless_imports_hidden
if {claims}:
    claim_process()
with needless_imports_hidden():
    print({name!r} in sys.modules and sys.modules[{name!r}] is None)
print({name!r} in sys.modules)
"""


def run(name: str, claims: bool) -> list[str]:
    code = CODE.format(name=name, claims=claims)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_it_is_hidden_in_our_own_process_for_a_while() -> None:
    assert run("sklearn", claims=True) == ["True", "False"]
    assert run("matplotlib", claims=True) == ["True", "False"]


def test_nothing_is_hidden_from_another_program() -> None:
    assert run("sklearn", claims=False) == ["False", "False"]
