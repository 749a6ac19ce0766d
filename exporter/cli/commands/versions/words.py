"""What is said of a version that was made of another artifact's bytes."""

from typing import TYPE_CHECKING

from exporter.saving.contents import format_bytes
from exporter.text.showing import print_line

if TYPE_CHECKING:
    from exporter.exporting.destinations.copying import PublishedCopy


def print_published(published: "PublishedCopy", source: str) -> None:
    """Prints what was published.

    Args:
        published: It.
        source: Whose bytes it has, in words.
    """
    size = f"{published.files} files, {format_bytes(published.total_bytes)}"
    checked = ", all as exported, by its manifest" if published.is_checked else ""
    print_line(f"✓ {published.path} has the bytes of {source}: {size}{checked}")
    if not published.is_checked:
        print_line("! there was no manifest in it: nothing tells whether they are as they were written")
    if not published.has_receipt:
        print_line("! there was no receipt beside it: nothing tells what it was made from")
