"""AdaLoRA: what PEFT leaves to the training loop, and that a kill changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from byrote.methods.base import Regimen
from byrote.objectives.batching import encode
from byrote.objectives.lm import Decoder
from byrote.runner.private_runs import promised
from byrote.study import Study
from byrote.training.cost import seeded
from byrote.training.loop import Training
from byrote.training.losses import example_loss
from byrote.types import ByroteError, StudyError
from conftest import make_texts, make_tokenizer
from method_story import PLAN, attach, load_again, outputs, train
from private_checks import bench, private, training_of

SPEC = {"name": "adalora", "init_r": 6, "target_r": 2, "lora_dropout": 0.1}
LONG = replace(PLAN, epochs=10, max_steps=20)


def fresh() -> tuple[Any, Training, Regimen]:
    attached = attach("llama", SPEC)
    model: Any = attached.model
    assert attached.regimen is not None
    examples = encode(make_tokenizer(), make_texts(8, seed=6), 40)
    loss = example_loss(Decoder(model), examples, 0, "cpu")
    lengths = [len(e.ids) for e in examples]
    return model, Training(model, loss, lengths, LONG, regimen=attached.regimen), attached.regimen


def values(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def ranks(model: Any) -> list[int]:
    return [int((value != 0).sum()) for name, value in values(model).items() if ".lora_E." in name]


def test_the_schedule_is_a_tenth_and_three_tenths() -> None:
    model, _, _ = fresh()
    config = model.peft_config["default"]
    assert (config.tinit, config.tfinal, config.total_step) == (2, 6, 20)


def test_ranks_shrink_to_the_budget_and_stay_there() -> None:
    """All of 4 matrices at rank 6 until tinit; from step 14 on 4 x 2 in all, spread by importance."""
    model, training, _ = fresh()
    seen: list[int] = []
    with seeded(2):
        for _ in training.run(lambda: seen.append(sum(ranks(model)))):
            pass
    assert seen[:2] == [24, 24] and sorted(seen, reverse=True) == seen
    assert seen[13:] == [8] * 7 and 8 < seen[5] < 24
    # The last masks are the same ones each time: what is dead stays dead.
    assert torch.allclose(outputs(load_again("llama", model, adapter=True)), outputs(model), atol=1e-5)


def test_the_orthogonality_term_is_pefts() -> None:
    """PEFT adds its term to the loss that it returns for labels; byrote's penalty is the difference."""
    model, _, regimen = fresh()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01)
    ids = torch.arange(5, 13)[None]
    model.eval()
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
        plain = torch.nn.functional.cross_entropy(theirs.logits[0, :-1], ids[0, 1:])
        ours = float(regimen.penalty())
    assert ours == pytest.approx(float(theirs.loss - plain), rel=1e-4) and ours > 0.1


def test_the_penalty_is_trained_on_and_not_reported() -> None:
    lengths, losses = [], []
    for weight in (0.0, 5.0):
        attached = attach("llama", {**SPEC, "orth_reg_weight": weight, "lora_dropout": 0.0})
        regimen: Any = attached.regimen
        train(attached, LONG)
        regimen.config.orth_reg_weight = 1.0
        lengths.append(float(regimen.penalty().detach()))
    assert lengths[1] < 0.7 * lengths[0]
    for weight in (0.0, 5.0):
        attached = attach("llama", {**SPEC, "orth_reg_weight": weight, "lora_dropout": 0.0})
        examples = encode(make_tokenizer(), make_texts(8, seed=6), 40)
        loss = example_loss(Decoder(attached.model), examples, 0, "cpu")
        training = Training(attached.model, loss, [1] * 8, PLAN, regimen=attached.regimen)
        list(training.run())
        losses.append(training.position.losses[0].loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("stop", [1, 7, 15])
def test_a_kill_changes_nothing(tmp_path: Path, stop: int) -> None:
    """Before ranks shrink, while they do, and after: dropout, importance and masks all go on."""

    class Killed(Exception):
        pass

    model, training, _ = fresh()
    with seeded(2):
        list(training.run())
    whole = values(model)

    model, training, _ = fresh()

    def kill() -> None:
        if training.position.step == stop:
            training.save(tmp_path / "state")
            raise Killed

    with seeded(2), pytest.raises(Killed):
        list(training.run(kill))
    model, training, _ = fresh()
    training.resume(tmp_path / "state")
    with seeded(3):
        training.resume(tmp_path / "state")
        list(training.run())
    for name, value in values(model).items():
        assert torch.equal(value, whole[name]), name


def test_without_its_importance_a_resumed_run_ends_elsewhere(tmp_path: Path) -> None:
    """The test above can fail."""
    model, training, _ = fresh()
    kept: list[int] = []

    def keep() -> None:
        if training.position.step == 7:
            training.save(tmp_path / "state")
            kept.append(7)

    with seeded(2):
        list(training.run(keep))
    assert kept
    whole = values(model)
    model, training, regimen = fresh()
    training.resume(tmp_path / "state")
    regimen.restore({})
    list(training.run())
    assert any(not torch.equal(value, whole[name]) for name, value in values(model).items())


def test_a_schedule_without_room_is_an_error() -> None:
    attached = attach("llama", {**SPEC, "tinit": 15, "tfinal": 5})
    with pytest.raises(ByroteError, match=r"tinit \(15\) and tfinal \(5\) leave none of the run's 20 steps"):
        train(attached, LONG)


def test_privacy_is_refused_with_the_reason() -> None:
    study = Study.model_validate(
        {
            "name": "s",
            "model": "builtin:tiny",
            "data": {"source": "builtin:aws-docs", "text": "text", "members": 100},
            "methods": ["adalora"],
            "privacy": [{"epsilon": 8}],
            "attacks": [],
            "utility": [],
        }
    )
    level: Any = study.privacy[0]
    method: Any = study.methods[0]
    experiment = study.experiment(method, level, 0, 1e-3, model="m", data="d")
    with pytest.raises(StudyError, match="private training refused: adalora chooses its ranks"):
        promised(experiment, level, [])


def test_the_loop_takes_no_regimen_with_privacy() -> None:
    made = bench()
    privatiser = private(made)
    with pytest.raises(ByroteError, match="privacy is not promised"):
        Training(
            made.model, made.loss, made.lengths, training_of(made, privatiser).plan, private=privatiser,
            regimen=attach("llama", SPEC).regimen,
        )  # fmt: skip
