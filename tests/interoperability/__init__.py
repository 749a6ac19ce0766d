"""Software that we did not write opens what we write, and computes the same numbers."""
