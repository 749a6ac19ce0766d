"""The checks of what a model is: its variables, its layers, and how it is compiled."""
