"""Membership inference: was this record in the training data? One file per attack."""
