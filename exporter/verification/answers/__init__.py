"""What artifacts of any format answer, each through its own runtime."""
