"""The bytes of an artifact: names, checksums, records, HDF5 and tensor bundles, all without TensorFlow."""
