"""The check of a recipe and its overrides: every fault at once, before TensorFlow is imported and before any job runs.

Hydra stops at the first fault. So each override is parsed and applied by itself here, and what they compose to is read
into the classes of `exporter.config`, which name all that is left.
"""
