"""Weights that ship inside the package: ``nano/``, 16 MB at most in all."""
