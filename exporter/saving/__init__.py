"""The save core: a Keras model to and from an artifact on disk, in the exact same state."""
