"""The proof of an artifact that holds what endpoints compute: in a process that has its runtime and no TensorFlow."""
