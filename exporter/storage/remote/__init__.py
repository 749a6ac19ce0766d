"""Artifacts that stand in a store behind a URL: `s3://`, `gs://` or `az://`.

A path without a scheme never comes here, and fsspec is imported for a URL only. Nothing is written of the transfer
itself: connections, credentials, parts and retries are fsspec's and those of its libraries.
"""

from exporter.storage.remote.addresses import explain_url, is_url
from exporter.storage.remote.fetching import fetch, find_artifact, show_urls
from exporter.storage.remote.store import Store

__all__ = ["Store", "explain_url", "fetch", "find_artifact", "is_url", "show_urls"]
