"""What a configuration says of layers, classes and functions."""
