"""What a model took over of labels that were wrong on purpose, one file per measurement."""
