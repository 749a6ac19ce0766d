"""The pages of `exporter inspect` and `exporter diff`."""
