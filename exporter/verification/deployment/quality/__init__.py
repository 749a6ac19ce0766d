"""Real data: what an artifact is calibrated with, and what it is judged on."""
