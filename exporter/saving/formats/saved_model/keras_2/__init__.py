"""The Keras model inside a SavedModel that Keras 2 wrote: its layers, its compile configuration, its optimizer."""
