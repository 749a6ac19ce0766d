"""What a verification compares."""
