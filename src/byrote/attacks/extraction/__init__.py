"""What a tuned model writes of its training text, one file per measurement."""
