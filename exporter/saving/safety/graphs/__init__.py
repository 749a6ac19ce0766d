"""Whether the graph of a SavedModel does nothing but compute."""
