"""A model made again from its configuration and the record of its state."""
