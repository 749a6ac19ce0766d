"""A model before it is saved: built, given data, asked, traced into endpoints."""
