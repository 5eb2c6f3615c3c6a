"""Base models: where their files are, and how they are loaded."""
