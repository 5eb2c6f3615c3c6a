"""No engine that passes the self-test is wrong, on any method and family; planted wrong ones do not pass."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from byrote.objectives.lm import Decoder
from byrote.registry import names
from byrote.study.privacy import Privacy
from byrote.training.bookkeeping import Bookkeeping
from byrote.training.losses import HeadLoss, TextLoss, example_loss
from byrote.training.per_example import Clipped, Clipping, Engine, EngineUnsuited, Loop, Unit
from byrote.training.self_test import ENGINES, NoEngine, check, choose_engine, probes
from byrote.training.state import trainable
from byrote.training.vmap import VMap
from conftest import make_model
from private_matrix import (
    DOCS,
    EXACT,
    PLACES,
    Truth,
    Variant,
    examine,
    naive_gradients,
    prepared,
    records,
    tables,
    variants,
    without_digits,
    written,
)

LORA, FULL, PROMPT, P_TUNING = (Variant(name) for name in ("lora", "full", "prompt-tuning", "p-tuning"))


def probed(model: torch.nn.Module) -> TextLoss:
    """The loss over the self-test's three examples."""
    loss = example_loss(Decoder(model), probes(records((24, 20, 22), 90)), 0, "cpu")
    assert isinstance(loss, TextLoss)
    return loss


def said_of(kind: type[Engine], model: torch.nn.Module) -> str:
    """Why the self-test refuses an engine; fails where it does not."""
    with pytest.raises(EngineUnsuited) as refusal:
        check(kind, probed(model), trainable(model))
    return str(refusal.value)


# --- the matrix ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PLACES)
@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.label)
def test_what_passes_the_self_test_is_exact(variant: Variant, family: str) -> None:
    cell = examine(variant, family)
    if cell.misfit:
        assert not cell.errors and not cell.auto
        return
    assert {*cell.errors, *cell.refused} == {kind.name for kind in ENGINES}
    assert all(error < EXACT for error in cell.errors.values()), cell.errors
    assert all(cell.refused.values())
    # `auto` takes the fastest that passes, and none only where none does.
    assert cell.auto == next((kind.name for kind in ENGINES if kind.name in cell.errors), "")


def test_every_registered_method_has_a_row() -> None:
    assert {variant.method for variant in variants()} == set(names("method"))


def test_the_docs_show_this_matrix() -> None:
    """Rows, engines and refusals; errors differ between machines. `python tests/private_matrix.py` writes it."""
    assert without_digits(written()).splitlines() == without_digits(tables()).splitlines()


def test_the_docs_name_every_setting() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in listed if name in Privacy.model_fields] == list(Privacy.model_fields)
    for name, default in listed:
        if name in Privacy.model_fields and Privacy.model_fields[name].default is not None:
            assert default.strip("`") == str(Privacy.model_fields[name].default), name


def test_the_naive_truth_is_transformers_own_loss(family: str) -> None:
    """`labels=` averages over a batch's tokens, which for one record is that record's own mean."""
    model, (example,) = prepared(FULL, family), records((11,), 3)
    row, parameters = torch.tensor([example.ids]), trainable(model)
    gradients = torch.autograd.grad(model(input_ids=row, labels=row).loss, list(parameters.values()))
    ours = naive_gradients(model, example)
    for name, theirs in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(ours[name], theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["automatic", "per-layer"])
@pytest.mark.parametrize("variant", [FULL, replace(LORA, records_per_group=2), PROMPT], ids=lambda v: v.label)
def test_other_ways_to_clip(variant: Variant, kind: str) -> None:
    """Every engine against the clipping's own formula, by hand."""
    model, norm = prepared(variant, "gpt2"), 0.3
    truth = Truth.of(model, records((12, 7, 3, 30), 40), variant.records_per_group)
    right = {name: torch.zeros_like(value) for name, value in truth.gradients[0].items()}
    for found, length in zip(truth.gradients, truth.lengths, strict=True):
        layers: dict[str, list[str]] = {}
        for name in found:
            layers.setdefault(name.rsplit(".", 1)[0] if "." in name else "", []).append(name)
        for inside in layers.values():
            own = sum(float(found[name].double().square().sum()) for name in inside) ** 0.5
            share = min(1.0, norm / len(layers) ** 0.5 / own) if own else 1.0
            for name in inside:
                right[name] += found[name] * (share if kind == "per-layer" else norm / (length + 0.01))
    for engine in ENGINES:
        clipping = Clipping(norm, kind)  # type: ignore[arg-type]
        sums = engine(truth.loss, trainable(model)).clipped_sums(truth.units, clipping).sums
        for name, value in right.items():
            torch.testing.assert_close(sums[name], value, atol=1e-6, rtol=1e-3, msg=f"{engine.name}: {name}")


@pytest.mark.parametrize(
    ("variant", "family"), [(Variant("lora", settings={"lora_dropout": 0.3}), "llama"), (FULL, "gpt2")]
)
def test_bookkeeping_is_exact_under_dropout(variant: Variant, family: str) -> None:
    """The same masks again, by the same seed: each record's own gradient through the graph of one batch."""
    model = prepared(variant, family)
    loss, parameters = TextLoss(Decoder(model), records((12, 7, 19), 5), 0, "cpu"), trainable(model)
    torch.manual_seed(3)
    losses = loss([0, 1, 2])
    alone = [torch.autograd.grad(one, list(parameters.values()), retain_graph=True) for one in losses]
    torch.manual_seed(3)
    found = Bookkeeping(loss, parameters).clipped_sums([[0], [1], [2]], Clipping(0.5))
    loss.training = False
    assert not torch.allclose(losses, loss([0, 1, 2]), rtol=1e-3)  # dropout was on
    lengths = [float(torch.cat([g.flatten() for g in one]).norm()) for one in alone]
    assert found.lengths.tolist() == pytest.approx(lengths, rel=1e-5)
    for at, (name, value) in enumerate(found.sums.items()):
        right = sum(one[at] * min(1.0, 0.5 / length) for one, length in zip(alone, lengths, strict=True))
        torch.testing.assert_close(value, right, atol=1e-6, rtol=1e-3, msg=name)


# --- planted wrong engines -----------------------------------------------------------------------


class BatchAsOneExample(Loop):
    """Clips the whole batch as one example, as a per-example gradient of shape (1, ...) does."""

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """One unit."""
        return super().clipped_sums([[index for unit in units for index in unit]], clipping)


class BatchAsOneFactor(Loop):
    """Right norms to show, but all records share the factor of their sum, as in ghost clipping of a prompt."""

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """One factor."""
        alone = super().clipped_sums(units, Clipping(float("inf")))
        whole = torch.stack([value.norm() for value in alone.sums.values()]).norm()
        factor = (clipping.norm / whole).clamp(max=1.0)
        return replace(alone, sums={name: value * factor for name, value in alone.sums.items()})


class NeverClips(Loop):
    """Sums without clipping."""

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """Whatever the norm."""
        return super().clipped_sums(units, Clipping(float("inf")))


class MissesALayer(Bookkeeping):
    """A hook that is never called: one parameter's gradient stays zero and is not in the norm."""

    def _filled(self, sums: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return super()._filled({name: value for name, value in sums.items() if name != next(iter(self.parameters))})


class ForgetsARecord(Loop):
    """Leaves the last record of a batch out."""

    def clipped_sums(self, units: Sequence[Unit], clipping: Clipping) -> Clipped:
        """One fewer, one counted twice."""
        return super().clipped_sums([*units[:-1], units[0]], clipping)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (BatchAsOneExample, "it saw 1 examples instead of 3"),
        (BatchAsOneFactor, "its clipped gradient of .* is off by"),
        (NeverClips, "its clipped gradient of .* is off by"),
        (MissesALayer, "its clipped gradient of .* is off by 1.0e\\+00"),
        (ForgetsARecord, "its per-example gradient norms are off by"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_engine_is_refused(kind: type[Engine], told: str, family: str) -> None:
    model = prepared(LORA, family)
    with pytest.raises(EngineUnsuited, match=told):
        check(kind, probed(model), trainable(model))


@pytest.mark.parametrize(
    ("unaided", "told"), [(True, "a layer saw 1 rows instead of the batch's 3"), (False, "RuntimeError: ")]
)
@pytest.mark.parametrize("variant", [PROMPT, P_TUNING], ids=lambda v: v.label)
def test_one_copy_of_the_virtual_tokens_is_refused(
    family: str, variant: Variant, unaided: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lookup for the whole batch, whose result is repeated: what other tools clip as one example.

    Also without the help that layers get which are rightly called once for a batch.
    """

    def one_lookup(model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
        def get_prompt(batch_size: int, *_: object, **__: object) -> torch.Tensor:
            encoder, tokens = model.prompt_encoder["default"], model.prompt_tokens["default"]
            return encoder(tokens[None]).repeat(batch_size, 1, 1)

        monkeypatch.setattr(model, "get_prompt", get_prompt, raising=False)
        return contextlib.nullcontext()

    model = prepared(variant, family)
    monkeypatch.setattr("byrote.training.bookkeeping._prompts_of_every_row", one_lookup)
    if unaided:
        monkeypatch.setattr("byrote.training.layers.Layout.needs_every_row", lambda layout, given: False)
    assert said_of(Bookkeeping, model).startswith(told)
    check(Loop, probed(model), trainable(model))


# --- models that no engine, or not every one, gets right ----------------------------------------


def hooked(model: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    """The model with its input embeddings changed on the way."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    embedding.register_forward_hook(lambda module, inputs, output: change(output))
    return model


@pytest.mark.parametrize("variant", [FULL, LORA], ids=lambda v: v.label)
def test_arithmetic_over_the_batch_is_refused(family: str, variant: Variant) -> None:
    """The mean over records and places: a record's gradient depends on its neighbours, and on their padding."""
    model = hooked(prepared(variant, family), lambda hidden: hidden - 0.5 * hidden.mean((0, 1), keepdim=True))
    for kind in (Bookkeeping, VMap):
        assert "off by" in said_of(kind, model)
    check(Loop, probed(model), trainable(model))
    assert choose_engine("auto", probed(model), probed(model), trainable(model))[0].name == "loop"


def test_vmap_shows_every_record_to_the_model_alone() -> None:
    """So a mean over records alone harms bookkeeping only; vmap's gradients are those of single records."""
    model = hooked(prepared(LORA, "llama"), lambda hidden: hidden - 0.5 * hidden.mean(0, keepdim=True))
    assert "off by" in said_of(Bookkeeping, model)
    check(VMap, probed(model), trainable(model))
    truth = Truth.of(model, records((12, 7, 3), 0), 1)
    assert truth.worst(VMap, trainable(model)) < EXACT < truth.worst(Bookkeeping, trainable(model))


@pytest.mark.parametrize("how", ["unused", "detached"])
def test_a_parameter_without_a_gradient_is_refused_by_name(how: str) -> None:
    model = prepared(LORA, "llama")
    if how == "unused":
        model.forgotten = torch.nn.Linear(3, 3, bias=False)
        name = "forgotten.weight"
    else:
        name = next(name for name in trainable(model) if "lora_A" in name)
        model.get_submodule(name.removesuffix(".weight")).register_forward_hook(lambda m, i, out: out.detach())
    for kind in ENGINES:
        assert said_of(kind, model) == f"{name} receives no gradient, though the method trains it"
    with pytest.raises(NoEngine, match=f"bookkeeping: {name} .*; vmap: {name} .*; loop: {name} "):
        choose_engine("auto", probed(model), probed(model), trainable(model))


@pytest.mark.parametrize("variant", [FULL, LORA, PROMPT], ids=lambda v: v.label)
def test_arithmetic_over_the_batch_in_training_alone_is_refused(family: str, variant: Variant) -> None:
    """As batch normalisation has it: with dropout off, as in the comparison of gradients, nothing is to be seen."""
    model = prepared(variant, family)
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: output - 0.5 * output.roll(1, 0) if module.training else None
    )
    assert said_of(Bookkeeping, model) == "the model lets a record's loss depend on other records of its batch"
    assert choose_engine("auto", probed(model), probed(model), trainable(model))[0].name == "vmap"


def test_rows_of_a_frozen_body_that_mixes_records_are_refused() -> None:
    """Head tuning makes the body's rows once, in batches: no engine over these rows could see that they are mixed."""
    model = hooked(prepared(Variant("head"), "llama"), lambda hidden: hidden - 0.5 * hidden.mean(0, keepdim=True))
    loss = example_loss(Decoder(model), probes(records((24, 20, 22), 90)), 0, "cpu")
    assert isinstance(loss, HeadLoss)
    with pytest.raises(NoEngine, match=r"bookkeeping: the model lets .*; vmap: .*; loop: the model lets "):
        choose_engine("auto", loss, loss, trainable(model))


def test_running_statistics_are_refused_and_put_back() -> None:
    """They carry records into the saved weights past every clipping."""
    model = prepared(LORA, "llama")
    layer = torch.nn.BatchNorm1d(32)
    model.base_model.model.model.norm.add_module("statistics", layer)
    hooked(model, lambda hidden: layer(hidden.transpose(1, 2)).transpose(1, 2))
    layer.requires_grad_(False)
    before = {name: value.clone() for name, value in layer.named_buffers()}
    assert "depend on other records" in said_of(Bookkeeping, model)
    for kind in (VMap, Loop):
        assert "statistics.running_mean, which no clipping bounds" in said_of(kind, model)
    assert all(torch.equal(value, before[name]) for name, value in layer.named_buffers())


def test_a_loss_that_averages_over_the_batchs_tokens_is_refused() -> None:
    """What `labels=` of transformers gives a batch: a record's share falls with its neighbours' lengths."""

    class TokenMean(TextLoss):
        def __call__(self, indices: Sequence[int]) -> torch.Tensor:
            counts = torch.tensor([float(self.examples[index].targets) for index in indices])
            return super().__call__(indices) * counts / counts.mean()

    model = make_model("llama").requires_grad_(True)
    right = probed(model)
    wrong = TokenMean(right.decoder, right.examples, 0, "cpu")
    check(Bookkeeping, right, trainable(model))
    with pytest.raises(EngineUnsuited, match="off by"):
        check(Bookkeeping, wrong, trainable(model))
