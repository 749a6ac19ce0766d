"""The functions of a model that live on without its code: what they are, and how they are traced."""
