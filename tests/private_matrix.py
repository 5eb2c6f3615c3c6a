"""Every registered method on every family and task: which engine gives each record's own gradient, and how exactly.

`python tests/private_matrix.py` writes the tables into docs/private-training.md. The truth is naive on purpose and
shares no code with byrote's engines: one unpadded record at a time through the whole model, plain cross-entropy,
plain backward, clipped by hand.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from byrote.methods.base import Method, NotForThisModel
from byrote.objectives.batching import Example, encode
from byrote.registry import make, names
from byrote.target import reader_of
from byrote.training.cost import seeded
from byrote.training.losses import ExampleLoss, example_loss
from byrote.training.per_example import Clipping, Engine, EngineUnsuited, Loop, Unit
from byrote.training.self_test import ENGINES, NOTHING, NoEngine, check, choose_engine, probes
from byrote.training.state import trainable
from conftest import FAMILIES, make_classifier, make_model, make_texts, make_tokenizer

DOCS = Path(__file__).parents[1] / "docs" / "private-training.md"
BEGIN, END = "<!-- matrix: written by tests/private_matrix.py -->", "<!-- end of matrix -->"
EXACT = 1e-3
"""Relative error of a parameter's clipped gradient sum below which an engine counts as exact."""
NO_FIT, REFUSED = "does not fit", "refused"

LABELS = 3
PLACES = (*FAMILIES, "llama, labels", "bert, labels")
"""Language models of every family, then classifiers: a decoder and an encoder."""
# Short units make bookkeeping keep products, long ones make it keep gradients: both ways are run.
LENGTHS = ((12, 7, 3, 2, 9), (40, 31, 24, 36), (17,))


@dataclass(frozen=True)
class Variant:
    """A method with settings, on models with changed settings, for units of one or more records."""

    method: str
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    model: Mapping[str, Any] = field(default_factory=dict, hash=False)
    records_per_group: int = 1

    @property
    def label(self) -> str:
        """As the table spells it."""
        return f"{self.method}, {self.name}" if self.name else self.method


# Settings that change which layers train or what they compute. A method that is not named here is run as it is.
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "full": (
        Variant("full", "head tied", model={"tie_word_embeddings": True}),
        Variant("full", "head untied", model={"tie_word_embeddings": False}),
        Variant("full", "2 records a group", records_per_group=2),
    ),
    "lora": (
        Variant("lora"),
        Variant("lora", "all-linear", {"target_modules": "all-linear"}),
        Variant("lora", "dropout 0.1", {"lora_dropout": 0.1}),
        Variant("lora", "2 records a group", records_per_group=2),
    ),
    "p-tuning": (
        Variant("p-tuning"),
        Variant("p-tuning", "LSTM", {"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 8}),
    ),
    "prefix-tuning": (
        Variant("prefix-tuning"),
        Variant("prefix-tuning", "projected", {"prefix_projection": True, "encoder_hidden_size": 8}),
    ),
    "prompt-tuning": (
        Variant("prompt-tuning"),
        Variant("prompt-tuning", "2 records a group", records_per_group=2),
    ),
}


def variants() -> list[Variant]:
    """Every registered method, and the settings of it that are worth a row of their own."""
    return [variant for name in names("method") for variant in VARIANTS.get(name, (Variant(name),))]


@dataclass
class Cell:
    """What one method does on one family."""

    errors: dict[str, float] = field(default_factory=dict)
    """Of each engine that passes the self-test, its worst error against the naive truth."""
    refused: dict[str, str] = field(default_factory=dict)
    """Of each engine that does not, the reason."""
    auto: str = ""
    """The engine that `auto` takes; empty where it takes none."""
    misfit: str = ""
    """Why the method cannot work on this family, or not under privacy, at all."""
    word: str = NO_FIT
    """What the table then says."""

    @property
    def text(self) -> str:
        """As the table spells it."""
        if self.misfit:
            return self.word
        return f"{self.auto} {self.errors[self.auto]:.0e}".replace("e-0", "e-") if self.auto else REFUSED


def prepared(variant: Variant, family: str) -> torch.nn.Module:
    """A random model with the method on it, its trainable values moved off where they start."""
    kind, _, labels = family.partition(", ")
    model = make_classifier(kind, LABELS) if labels else make_model(family, **variant.model)
    tied = variant.model.get("tie_word_embeddings")
    if tied is not None and not labels:
        assert tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    method = make("method", {"name": variant.method, **variant.settings})
    assert isinstance(method, Method)
    with seeded(1):
        attached = method.attach(model).model
        with torch.no_grad():
            for parameter in trainable(attached).values():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return attached


def objective_of(family: str) -> str:
    """What the models of a column are for."""
    return "classification" if family.endswith(", labels") else "lm"


def records(lengths: Sequence[int], seed: int, family: str = "llama") -> list[Example]:
    """Random texts of these lengths, with labels where these are what is learned."""
    texts = [make_texts(1, seed + at, length, length)[0] for at, length in enumerate(lengths)]
    found = encode(make_tokenizer(), texts, 64)
    if objective_of(family) == "lm":
        return found
    return [replace(example, label=at % LABELS) for at, example in enumerate(found)]


def grouped(count: int, size: int) -> list[Unit]:
    """Indices in units of `size`, the last one smaller where they do not fit."""
    return [list(range(first, min(first + size, count))) for first in range(0, count, size)]


def naive_gradients(model: torch.nn.Module, example: Example) -> dict[str, torch.Tensor]:
    """One record alone through the whole model: the gradient of its mean loss over tokens that have one before them."""
    parameters = trainable(model)
    row = torch.tensor([example.ids])
    model.eval()
    if example.label is None:
        whole = model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(whole[0, -len(example.ids) : -1].float(), row[0, 1:])
    else:
        scores = model(input_ids=row, attention_mask=torch.ones_like(row)).logits
        loss = torch.nn.functional.cross_entropy(scores.float(), torch.tensor([example.label]))
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


@dataclass
class Truth:
    """What any engine should give on some units."""

    loss: ExampleLoss
    units: list[Unit]
    gradients: list[dict[str, torch.Tensor]]
    """One per unit."""
    lengths: list[float]

    @classmethod
    def of(cls, model: torch.nn.Module, examples: list[Example], size: int) -> Truth:
        """By backward passes of single records; a unit's gradient is its records' mean."""
        units = grouped(len(examples), size)
        alone = [naive_gradients(model, example) for example in examples]
        gradients = [{name: sum(alone[i][name] for i in unit) / len(unit) for name in alone[0]} for unit in units]
        lengths = [math.sqrt(sum(float(g.double().square().sum()) for g in found.values())) for found in gradients]
        objective = "lm" if examples[0].label is None else "classification"
        loss = example_loss(reader_of(model, objective), examples, 0, "cpu")
        loss.training = False
        return cls(loss, units, gradients, lengths)

    def clipped_sum(self, norm: float) -> dict[str, torch.Tensor]:
        """Each unit's gradient scaled down to `norm`, and added."""
        factors = [min(1.0, norm / length) for length in self.lengths]
        return {
            name: sum(f * found[name] for f, found in zip(factors, self.gradients, strict=True))
            for name in self.gradients[0]
        }

    def error(self, sums: Mapping[str, torch.Tensor], norm: float) -> float:
        """The worst relative error of a parameter; what has next to no gradient is measured against the whole."""
        right = self.clipped_sum(norm)
        whole = math.sqrt(sum(float(value.double().square().sum()) for value in right.values()))
        assert list(sums) == list(right)
        return max(
            float((sums[name] - value).norm()) / max(float(value.norm()), NOTHING * whole)
            for name, value in right.items()
        )

    def worst(self, kind: type[Engine], parameters: Mapping[str, torch.nn.Parameter]) -> float:
        """An engine's worst error where about half of the units are clipped, and where none is.

        The loop does the same thing to every norm, and takes long: once is enough for it.
        """
        engine, middle = kind(self.loss, parameters), sorted(self.lengths)[len(self.lengths) // 2]
        return max(
            self.error(engine.clipped_sums(self.units, Clipping(norm)).sums, norm)
            for norm in (middle, *([] if kind is Loop else [math.inf]))
        )


@cache
def examine(variant: Variant, family: str) -> Cell:
    """Self-test every engine on one method and family, and measure those that pass against the naive truth."""
    cell = Cell()
    method = make("method", {"name": variant.method, **variant.settings})
    assert isinstance(method, Method)
    if method.not_private:
        return Cell(misfit=method.not_private, word=REFUSED)
    try:
        model = prepared(variant, family)
    except NotForThisModel as reason:
        return Cell(misfit=str(reason))
    parameters, size = trainable(model), variant.records_per_group
    reader = reader_of(model, objective_of(family))
    public = example_loss(reader, probes(records((24, 20, 22), 90, family)), 0, "cpu")
    truths = [Truth.of(model, records(lengths, 10 * at, family), size) for at, lengths in enumerate(LENGTHS)]
    with contextlib.suppress(NoEngine):
        cell.auto = choose_engine("auto", public, public, parameters, records_per_group=size)[0].name
    for kind in ENGINES:
        try:
            if kind.name != cell.auto:  # what was chosen has passed
                check(kind, public, parameters, records_per_group=size)
        except EngineUnsuited as reason:
            cell.refused[kind.name] = str(reason)
        else:
            cell.errors[kind.name] = max(truth.worst(kind, parameters) for truth in truths)
    return cell


def tables() -> str:
    """Both tables as Markdown."""
    rows = {variant: {family: examine(variant, family) for family in PLACES} for variant in variants()}
    lines = [f"| method | {' | '.join(PLACES)} |", "|---" * (1 + len(PLACES)) + "|"]
    lines += [f"| {v.label} | {' | '.join(cell.text for cell in cells.values())} |" for v, cells in rows.items()]
    engines = [kind.name for kind in ENGINES]
    lines += ["", "Which engines are exact, whether or not `auto` needs them:", ""]
    lines += [f"| method | {' | '.join(engines)} |", "|---" * (1 + len(engines)) + "|"]
    lines += [f"| {v.label} | {' | '.join(_where(cells, name) for name in engines)} |" for v, cells in rows.items()]
    return "\n".join(lines)


def _where(cells: Mapping[str, Cell], engine: str) -> str:
    """On which families an engine is exact; why not on the others."""
    fitting = {family: cell for family, cell in cells.items() if not cell.misfit}
    if not fitting:
        return "–"
    right = [family for family, cell in fitting.items() if engine in cell.errors]
    if len(right) == len(fitting):
        return "exact"
    reasons = dict.fromkeys(_short(cell.refused[engine]) for cell in fitting.values() if engine in cell.refused)
    return f"{'exact on ' + ', '.join(right) + '; ' if right else ''}refused: {'; '.join(reasons)}"


def _short(reason: str) -> str:
    """A reason without the names of single parameters and without digits, which differ between machines."""
    return re.sub(r" \(.*\)|\d\S*", "", reason).replace("|", "/").strip()[:80]


def without_digits(text: str) -> str:
    """A table as every machine should find it."""
    return re.sub(r" \de[-+]?\d+", "", text)


def written() -> str:
    """The tables in the docs."""
    return DOCS.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    """Write the tables into the docs."""
    torch.set_num_threads(1)
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
