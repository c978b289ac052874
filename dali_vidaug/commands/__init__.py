"""What users start from a shell. Nothing else in the package imports it."""
