"""Models of older Keras: their configurations, weights and optimizers in today's terms."""
