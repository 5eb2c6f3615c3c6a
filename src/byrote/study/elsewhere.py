"""The names that other tools have for what a study's keys say."""

ELSEWHERE = {
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "gradient_accumulation_steps": "batch_size",
    "lr": "learning_rate",
    "max_seq_length": "max_length",
    "block_size": "max_length",
    "model_name": "model",
    "model_name_or_path": "model",
    "base_model": "model",
    "dataset": "data",
    "dataset_name": "data.source",
    "text_column": "data.text",
    "label_column": "data.label",
    "group_column": "data.group",
    "seed": "seeds",
    "method": "methods",
    "attack": "attacks",
    "early_stopping": "early_stop",
    "early_stopping_patience": "early_stop",
    "max_grad_norm_dp": "privacy: {clip_norm}",
    "target_epsilon": "privacy: {epsilon}",
}
"""Theirs, and ours. A key on the left is an error that names the right one."""
