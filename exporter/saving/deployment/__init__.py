"""Artifacts for runtimes of others: converted from our SavedModel, they hold what endpoints compute, not the model."""
