"""The commands for sweeps that have ended: which there are, and what has changed from one to another."""
