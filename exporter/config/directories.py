"""Where the YAML that comes with the package is."""

from pathlib import Path


def _find_directory(name: str) -> Path:
    """Finds a folder of YAML: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


CONFIG_DIRECTORY = _find_directory("conf")
RECIPES_DIRECTORY = _find_directory("recipes")
