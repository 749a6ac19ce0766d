"""The HDF5 file in the legacy Keras layout."""
