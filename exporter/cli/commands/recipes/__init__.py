"""The commands about recipes: those that come with the package, and what one of them would do."""
