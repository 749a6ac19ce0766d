"""The proof in another environment: its own Python opens the artifact with what is installed there, and answers."""
