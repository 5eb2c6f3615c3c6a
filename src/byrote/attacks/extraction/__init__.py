"""What comes out of a model that was trained on a record, one file per measurement."""
