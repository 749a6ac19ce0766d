"""Files of older Keras."""
