"""The versions of the software that took part."""

from collections.abc import Mapping


def read_versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions of installed packages without importing them.

    Args:
        packages: The name to report -> the distributions' name, in the order to report them.

    Returns:
        The versions of those that are installed.
    """
    from importlib import metadata  # not above: checking a recipe needs the classes of this module alone

    versions: dict[str, str] = {}
    for name, distribution in packages.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return versions
