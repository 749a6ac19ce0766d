"""Files on the disk and in stores, written whole or not at all."""
