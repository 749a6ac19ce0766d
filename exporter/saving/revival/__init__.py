"""Keras models from saved functions, without their code."""
