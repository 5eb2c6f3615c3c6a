"""Fine-tuning methods: which weights move. One file each; `base.Method` is what they share."""
