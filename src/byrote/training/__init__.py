"""Training: one readable loop, its full state on disk, and what it costs."""
