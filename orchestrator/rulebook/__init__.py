"""The rulebook: YAML in, a checked, typed, versioned and compiled rulebook out."""
