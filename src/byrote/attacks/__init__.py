"""Attacks on a tuned model, one file each, by kind of leak."""
