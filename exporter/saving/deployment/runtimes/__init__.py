"""The runtimes, one module each: what opens a deployed artifact without TensorFlow and Keras."""
