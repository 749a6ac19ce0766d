"""The commands that say what can be typed: help, and the completion of a shell."""
