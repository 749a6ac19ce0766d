"""What an artifact may not do to its reader: run code, reach other files, or ask for more memory than it has bytes.

Each module looks at one kind of content before anything else reads it, and raises ArtifactError.
"""
