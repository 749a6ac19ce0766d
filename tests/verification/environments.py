"""Environments with older releases, made of wheels from the package index and kept for the next run."""

import subprocess
import sys
import venv
from pathlib import Path

# What each has beside Python: releases of one time, and in the newer one the runtimes of that time.
RELEASES = {
    "older": ("tensorflow-cpu==2.16.2", "keras==3.5.0"),
    "newer": ("tensorflow-cpu==2.19.1", "keras==3.9.2", "onnxruntime==1.20.1", "openvino==2025.0.0"),
}
_DONE = "complete"


def make_environment(folder: Path, name: str) -> Path:
    """Makes an environment, unless it is there already.

    Args:
        folder: Where they are kept.
        name: In `RELEASES`.
    """
    place = folder / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = "\n".join(RELEASES[name])
    if not (place / _DONE).exists() or (place / _DONE).read_text() != wanted:
        venv.create(place, clear=True, with_pip=False)
        packages = next((place / "lib").glob("python*")) / "site-packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(packages)]
        subprocess.run([*command, *RELEASES[name]], check=True, capture_output=True, timeout=1500)
        (place / _DONE).write_text(wanted)
    return place


def add_code(environment: Path, place: Path, code: dict[str, str]) -> Path:
    """Makes an environment that has what another has, and modules of its own.

    Args:
        environment: The other one.
        place: Where the new one shall be.
        code: Name -> source.
    """
    venv.create(place, with_pip=False)
    packages, theirs = (next((each / "lib").glob("python*")) / "site-packages" for each in (place, environment))
    (packages / "other.pth").write_text(f"{theirs}\n")
    for name, source in code.items():
        (packages / f"{name}.py").write_text(source)
    return place
