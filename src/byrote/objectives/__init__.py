"""What is trained on and scored: batches, and the per-example loss of shape (B,)."""
