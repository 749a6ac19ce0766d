"""URLs of stores: which text is one, and what can be wrong with it before anything is asked of the store."""

import importlib.util
import re

from exporter.text.showing import shorten

_LONGEST_SHOWN = 120

# Protocol -> the package that fsspec needs for it, and the extra that brings it.
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), ("s3fs", "s3")),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gs")),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), ("adlfs", "az")),
}
# What needs no other package: the disk, and the memory of this process.
_AT_HAND = ("file", "memory")
_ALLOWED = "s3, gs, az, file or memory"

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*"
_URL = re.compile(rf"(?:{_SCHEME}::)*({_SCHEME})://")
_SECRET = re.compile(r"(?<=://)[^/@]*:.*@")  # a secret may hold slashes


def is_url(text: object) -> bool:
    """Whether something names a place in a store, and not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def is_known(url: str) -> bool:
    """Whether a URL is one of a store, of any protocol that a store can have here."""
    match = _URL.match(url)
    return match is not None and "::" not in url and (match[1] in (*_EXTRAS, *_AT_HAND) or _is_registered(match[1]))


def redact(url: str) -> str:
    """Replaces the credentials in a URL by dots."""
    return _SECRET.sub("…@", url)


def explain_url(url: str) -> str | None:
    """Says what is wrong with a URL, as far as that is known without asking the store.

    Args:
        url: Such as `s3://bucket/models/digits`.

    Returns:
        What was received, what is expected and how to fix it; None where nothing is wrong.
    """
    match = _URL.match(url)
    redacted = redact(url)
    shown = shorten(redacted, _LONGEST_SHOWN)
    if match is None:
        return f"received {shown}; expected a URL such as s3://bucket/models/digits"
    if redacted != url:
        return (
            f"received {shown}, which holds credentials, and a recipe is kept and shown; take them out. "
            "They are read from the environment or the files of the store's own tools, such as AWS_PROFILE"
        )
    if "::" in url:
        return f"received {shown}, a chain of URLs; expected a single one, of {_ALLOWED}"
    protocol = match[1]
    if not is_known(url):
        return f"received {shown}; there is no store of the protocol {protocol!r}; use {_ALLOWED}"
    if not url[match.end() :].strip("/"):
        return f"received {shown}; expected a bucket and a path, such as {protocol}://bucket/models/digits"
    package, extra = _EXTRAS.get(protocol, (None, ""))
    if package is not None and importlib.util.find_spec(package) is None:
        return f"received {shown}, which needs {package}, which is not installed: pip install 'keras-exporter[{extra}]'"
    return None


def _is_registered(protocol: str) -> bool:
    """Whether the program itself has brought the store; those that fsspec knows reach anywhere."""
    from fsspec.registry import known_implementations, registry

    return protocol in registry and protocol not in known_implementations


def split_name(url: str) -> tuple[str, str]:
    """Splits a URL into the directory and the last name."""
    directory, _, name = url.rstrip("/").rpartition("/")
    return directory, name
