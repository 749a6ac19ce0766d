"""Where an artifact goes: a path, a numbered version, or a URL."""
