"""What is known of an artifact: its receipt, its manifest, its signature, what it holds."""
