"""Types of what has none: what is used of Keras, TensorFlow, h5py and TensorFlow's messages, as Protocols.

The libraries are not imported here. A Protocol has what the package reads or calls and nothing more, so that mypy finds
a name that nobody checked; what `isinstance` tells at runtime is told by the library's own class.
"""
