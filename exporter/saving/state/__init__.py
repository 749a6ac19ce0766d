"""The state of a model: every variable, table, generator and policy, by its path."""
