"""Processes: fresh ones, confined ones, how they end, and what they hand over."""
