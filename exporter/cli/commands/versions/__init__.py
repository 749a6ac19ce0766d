"""The commands for a directory of numbered versions, which a model server watches."""
