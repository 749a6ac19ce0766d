"""Whether a new artifact is worse than the one that it is to take the place of."""
