"""An export: one config becomes one verified artifact with its receipt."""
