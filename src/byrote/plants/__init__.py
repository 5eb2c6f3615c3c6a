"""What is put into the training data on purpose, one file per plant."""
