"""The checks of what a model answers, however it is called."""
