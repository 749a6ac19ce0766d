"""Texts: what may be shown, what stays hidden, and the pages of a terminal."""
