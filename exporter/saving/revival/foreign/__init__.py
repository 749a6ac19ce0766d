"""Models of what a SavedModel of any writer and any age computes."""
