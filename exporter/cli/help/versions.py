"""The versions of what runs: read from what is installed, without importing it."""

from importlib.metadata import PackageNotFoundError, packages_distributions, version


def write_versions() -> str:
    """Writes our version with TensorFlow's and Keras's, on one line."""
    others = ", ".join(f"{name} {_find_version(module)}" for name, module in _OTHERS.items())
    return f"exporter {_find_version('exporter')} ({others})"


_OTHERS = {"TensorFlow": "tensorflow", "Keras": "keras"}
_OWN = {"exporter": "keras-exporter"}


def _find_version(module: str) -> str:
    try:
        return version(_OWN.get(module, module))
    except PackageNotFoundError:  # TensorFlow is also distributed under other names, such as tensorflow-cpu
        found = packages_distributions().get(module, ())
        return version(found[0]) if found else "is not installed"
