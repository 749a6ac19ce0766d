"""The endpoints that a recipe declares: read, checked, and built as functions of flat tensors."""
