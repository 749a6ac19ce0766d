"""What every check uses: how a check is written, the model that an artifact is compared with, and comparisons."""
