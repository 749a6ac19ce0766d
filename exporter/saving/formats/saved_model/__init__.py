"""The SavedModel directory."""
