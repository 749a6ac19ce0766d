"""A dry run: what an export would find out before it writes anything."""
