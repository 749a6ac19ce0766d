"""What the rows of a sweep say: its columns, which row is the best of each, and two sweeps beside each other."""
