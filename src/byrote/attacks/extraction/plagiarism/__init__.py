"""Plagiarism in generated text: which of it copies, rewrites or sums up a training text."""
