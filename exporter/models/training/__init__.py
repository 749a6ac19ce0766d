"""One step of training: what a model is trained on, and how the step is taken."""
