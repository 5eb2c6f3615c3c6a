"""Encoders classify, and are refused as language models; the shipped one is what it is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from byrote.models.load import load, resolve
from byrote.types import StudyError
from conftest import ENCODERS, make_classifier, make_tokenizer


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_no_language_model(family: str, tmp_path: Path) -> None:
    """transformers would load BERT as one, and every token would see those that it should foretell."""
    from transformers import AutoModelForMaskedLM

    AutoModelForMaskedLM.from_config(make_classifier(family).config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(StudyError, match=r"not a causal language model.*objective: classification"):
        load(resolve(str(tmp_path)))
    assert load(resolve(str(tmp_path)), labels=("a", "b")).model.config.num_labels == 2
    if family == "bert":  # as one that was trained to write
        config = tmp_path / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"is_decoder": True}))
        load(resolve(str(tmp_path)))
