"""The converters, one module each: what runs in the process of a conversion."""
