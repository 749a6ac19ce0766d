"""The save formats."""

from exporter.saving.formats import FORMATS
from exporter.saving.formats.format import Format


def list_rows() -> list[tuple[str, str]]:
    """Gives each format with its files, its readers and how it can be quantised."""
    return [(f"save_format={each.name}", "; ".join(_describe(each))) for each in FORMATS.values()]


def _describe(chosen: Format) -> list[str]:
    parts = [chosen.label]
    if chosen.suffixes:
        parts.append(f"chosen by {' or '.join(chosen.suffixes)}")
    if chosen is next(iter(FORMATS.values())):
        parts.append("chosen where nothing else is said")
    if not chosen.holds_model:
        parts.append("holds what the model computes, and load_model does not give it back")
    if chosen.quantizations:
        parts.append(f"quantize={' | '.join(chosen.quantizations)}")
    if chosen.extra:
        parts.append(f"pip install 'keras-exporter[{chosen.extra}]'")
    return parts
