"""The names inside the file."""

OURS = "exporter"
LEGACY = ("model_weights", "optimizer_weights")
CHECKSUMS = "checksums"
