"""What the configuration of an older model consists of, each in today's terms."""
