"""Loads damaged copies of an artifact, one after the other, in a process that may not survive them.

    python -m safety.damage_worker ARTIFACT SCRATCH FIRST COUNT

Each line of its output is JSON: before a case what is damaged, and after it what came of it.
"""

import json
import random
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEMORY = 24 << 30  # of addresses: TensorFlow reserves many
SECONDS = 20


def list_files(artifact: Path) -> list[Path]:
    """Lists the files whose bytes count, relative to the artifact."""
    if not artifact.is_dir():
        return [Path()]
    return sorted(
        path.relative_to(artifact) for path in artifact.rglob("*") if path.is_file() and not path.is_symlink()
    )


def choose_cases(artifact: Path, count: int) -> Iterator[tuple[Path, str, int, int]]:
    """Chooses bits to flip over all of the bytes, and places to cut files off, always the same ones."""
    generator = random.Random(7)
    files = list_files(artifact)
    sizes = [(artifact / name).stat().st_size for name in files]
    for number in range(count):
        name, size = generator.choices(list(zip(files, sizes, strict=True)), sizes)[0]
        if number % 10 == 9:
            yield name, "cut", generator.randrange(size), 0
        else:
            yield name, "flip", generator.randrange(size), generator.randrange(8)


def damage(path: Path, kind: str, position: int, bit: int) -> None:
    """Damages one file."""
    content = bytearray(path.read_bytes())
    if kind == "cut":
        del content[position:]
    else:
        content[position] ^= 1 << bit
    path.write_bytes(content)


def read_state(model: Any) -> dict[str, Any]:
    """Reads everything that must be the same."""
    import numpy as np

    from exporter.saving.rebuilding.record import describe_state
    from exporter.saving.state.collecting import collect, to_array

    state = collect(model, include_optimizer=True)
    values = {path: np.asarray(to_array(variable)).tobytes() for path, variable in state.variables.items()}
    return {
        **values,
        "record": describe_state(model, state, True).to_json(),
        "config": json.dumps(model.get_config()),
        "compile": json.dumps(model.get_compile_config()),
    }


def main() -> None:
    """Does what the module says."""
    import keras

    import exporter
    from exporter.errors import ExporterError

    artifact, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    first, count = int(sys.argv[3]), int(sys.argv[4])
    expected = read_state(exporter.load_model(artifact))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, case in enumerate(choose_cases(artifact, count)):
        if number < first:
            continue
        name, kind, position, bit = case
        print(json.dumps({"case": number, "what": [str(name), kind, position, bit]}), flush=True)
        copy = scratch / artifact.name
        if artifact.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(artifact, copy, symlinks=True)
        else:
            shutil.copyfile(artifact, copy)
        damage(copy / name, kind, position, bit)
        keras.backend.clear_session()
        try:
            same = read_state(exporter.load_model(copy)) == expected
            outcome = "same" if same else "DIFFERENT"
        except ExporterError as error:
            outcome = f"{type(error).__name__}: {error}"
        except BaseException as error:  # what the test is about: nothing else may come out
            outcome = f"UNTYPED {type(error).__name__}: {error}"
        print(json.dumps({"case": number, "outcome": outcome.replace(str(scratch), "")[:300]}), flush=True)


if __name__ == "__main__":
    main()
