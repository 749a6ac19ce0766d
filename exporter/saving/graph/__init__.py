"""The functions of a SavedModel: traced, written, checked, and a model that comes back from them."""
