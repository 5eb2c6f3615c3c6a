"""Which model an audit is of, and which untuned model it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from byrote.models import hub
from byrote.models.load import DTYPES, ResolvedModel, is_encoder, resolve
from byrote.models.tuned import (
    Adapter,
    GivenModel,
    InMemory,
    TunedOnDisk,
    active_config,
    changes_its_base,
    find_adapter,
    is_adapter,
    is_merged,
    tokenizer_beside,
)
from byrote.study.experiment import Training
from byrote.types import Record, Splits, StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = 8
"""Records by which two models are told apart."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2
NO_BASE = (
    "No untuned model was there to compare with: every null is the stated 0.5, and what any model would see between "
    "these members and nonmembers is not told from what this one has learned."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is audited, and against what."""

    tuned: GivenModel
    reference: str
    """The study's `model`: the untuned one, or the tuned one where there is no other."""
    untuned: bool
    base: GivenModel | None = None
    """The untuned model where it is in memory."""
    named_model: str | None = None
    named_adapter: str | None = None
    revision: str | None = None
    dtype: str | None = None
    """Where the model's own decides."""
    device: str = "auto"
    notes: tuple[str, ...] = ()


def on_disk(model: str | None, adapter: str | None, base: str) -> Choice:
    """A folder or a Hub id, an adapter on one, or a folder that holds an adapter alone. Raises StudyError."""
    if model is not None and is_adapter(model):
        if adapter is not None:
            raise StudyError(f"{model} and {adapter} are both adapters; give the model that the adapter goes on")
        model, adapter = None, model
    if adapter is None:
        if model is None:
            raise StudyError("which model is audited? Give --model, or --adapter")
        tuned = TunedOnDisk(resolve(model))
        if tuned.tokenizer_missing and base in ("auto", "none"):
            raise StudyError(f"{model} has no tokenizer: save it there (tokenizer.save_pretrained), or give --base")
        if base in ("auto", "none"):
            return Choice(tuned, model, False, named_model=model, notes=(NO_BASE,))
        _refuse_itself(tuned, base)
        return Choice(tuned, base, True, named_model=model)
    found = find_adapter(adapter)
    under, resolved, revision = _under(found, model)
    tuned = TunedOnDisk(resolved, found)
    if base == "none":
        return Choice(tuned, under, False, named_model=model, named_adapter=adapter, notes=(NO_BASE,))
    if base == "auto":
        return Choice(tuned, under, True, named_adapter=adapter, revision=revision)
    return Choice(tuned, base, True, named_model=under, named_adapter=adapter)


def _under(adapter: Adapter, model: str | None) -> tuple[str, ResolvedModel, str | None]:
    """What the adapter goes on: as given, else as it says itself."""
    if model is not None:
        return model, resolve(model), None
    named = adapter.base
    if named is None:
        raise StudyError(f"{adapter.folder} does not say which model it was tuned on: give that by --model")
    revision = adapter.config.get("revision") if not Path(named).exists() else None
    try:
        return named, resolve(named, revision), revision
    except StudyError as error:
        raise StudyError(
            f"{adapter.folder} was tuned on {named}, which cannot be had here ({error}). Give that model by --model"
        ) from None


def _refuse_itself(tuned: TunedOnDisk, base: str) -> None:
    if resolve(base).fingerprint == tuned.fingerprint:
        raise StudyError(f"{base} is the tuned model itself: give the model that it was tuned from, or --base none")


def in_memory(
    model: Any, tokenizer: PreTrainedTokenizerBase | None, base: Any, splits: Splits, max_length: int
) -> Choice:
    """A transformers or PEFT model that somebody holds. Raises StudyError."""
    _refuse_other_kinds(model)
    tokenizer = tokenizer or tokenizer_beside(model)
    if tokenizer is None:
        raise StudyError("this model has no tokenizer beside it: give tokenizer=")
    tuned = InMemory(model, tokenizer)
    place: dict[str, Any] = {"device": str(model.device), "dtype": _precision(model)}
    place["named_model"] = tuned.reference
    if base is None or (base == "auto" and active_config(model) is None):
        return Choice(tuned, tuned.reference, False, notes=(NO_BASE,), **place)
    if base == "auto":
        beneath, notes = _beneath(model, tokenizer, splits, max_length)
        if beneath is None:
            return Choice(tuned, tuned.reference, False, notes=(*notes, NO_BASE), **place)
        return Choice(tuned, beneath.reference, True, base=beneath, notes=notes, **place)
    if isinstance(base, str | Path):
        return Choice(tuned, str(base), True, **place)
    _refuse_other_kinds(base)
    _refuse_shared(model, base)
    if _precision(base) != place["dtype"]:
        raise StudyError(
            f"the tuned model is in {place['dtype']} and its base in {_precision(base)}, so that rounding alone tells "
            "them apart: bring both to one precision (model.to(torch.float32))"
        )
    other = InMemory(base, tokenizer)
    return Choice(tuned, other.reference, True, base=other, **place)


def _precision(model: Any) -> str:
    """What a model in memory computes in. Raises StudyError for what an audit does not record, or load a base in."""
    own = str(model.dtype).removeprefix("torch.")
    if own not in get_args(Training.model_fields["dtype"].annotation):
        raise StudyError(
            f"this model is in {own}, which an audit does not compute in: bring it to float32 or bfloat16 "
            "(model.float(), or model.to(torch.bfloat16)), or save it and give its folder"
        )
    return own


def _refuse_shared(model: Any, base: Any) -> None:
    """An adapter is put into the very model that it is tuned on, which is then no untuned model. Raises StudyError."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    inside = {id(part) for part in (*model.modules(), *model.parameters())}
    shared = any(id(part) in inside for part in (*base.modules(), *base.parameters()))
    layers = (module for module in base.modules() if isinstance(module, BaseTunerLayer))
    adapted = active_config(base) is None and any(not layer.disable_adapters for layer in layers)
    if shared or adapted:
        what = "shares its modules with the tuned model" if shared else "has an adapter in its layers"
        raise StudyError(
            f"the base {what}: get_peft_model puts the adapter into the model that it is given, which is not untuned "
            'any more. Give base="auto", or load the base once more'
        )


def _refuse_other_kinds(model: Any) -> None:
    from transformers import PreTrainedModel

    inside = model.get_base_model() if active_config(model) is not None else model
    if not isinstance(inside, PreTrainedModel):
        raise StudyError(f"a {type(model).__name__} is not a transformers model, nor a PEFT model on one")
    other = inside.config.is_encoder_decoder or model.get_output_embeddings() is None
    if other or is_encoder(inside.config.to_dict()):
        raise StudyError(f"{type(inside).__name__} is not a causal language model, which an audit needs")


def _beneath(
    model: Any, tokenizer: PreTrainedTokenizerBase, splits: Splits, max_length: int
) -> tuple[GivenModel | None, tuple[str, ...]]:
    """The untuned model under the adapter of a model in memory: itself with the adapter off, where that is the same.

    Where the base's own files are here they decide; else what is known of the kind of adapter does.
    """
    config: Any = active_config(model)
    named, files = config.base_model_name_or_path or "its base", _files_of(config.base_model_name_or_path)
    if files is None:
        if changes_its_base(model):
            return None, (f"Switching the adapter off does not give back {named}, which is not here: give it as base.",)
        note = f"The untuned model is the tuned one with its adapter switched off; {named} is not here to check it by."
        return InMemory(model, tokenizer, untuned=True), (note,)
    pristine = TunedOnDisk(files)
    if not is_merged(model):  # merged weights would have to be changed to take the adapter off them
        off = InMemory(model, tokenizer, untuned=True)
        if _same(off, pristine, tokenizer, list(splits.members[:PROBES]), max_length, model):
            return off, ()
    note = f"Switching the adapter off does not give back {named}: the untuned model was read from its files."
    return pristine, (note,)


def _files_of(named: str | None) -> ResolvedModel | None:
    """The files of a model where they are here already; nothing is fetched."""
    if not named:
        return None
    try:
        return resolve(named) if Path(named).is_dir() or hub.cached(named) else None
    except (StudyError, ValueError):
        return None


def _same(
    one: GivenModel,
    other: GivenModel,
    tokenizer: PreTrainedTokenizerBase,
    records: list[Record],
    max_length: int,
    model: Any,
) -> bool:
    """Whether two models give the same log-probabilities to the tokens of these records."""
    import numpy as np

    from byrote.target import Target

    dtype, device = str(model.dtype).removeprefix("torch."), str(model.device)
    tolerance = TOLERANCE if dtype == "float32" else HALF_TOLERANCE
    found = []
    for given in (one, other):
        loaded: Any = given.load(dtype=dtype if dtype in DTYPES else "float32", device=device)
        found.append(Target(loaded, tokenizer, max_length=max_length, device=device).token_stats(records))
    return all(np.allclose(a.log_prob, b.log_prob, atol=tolerance) for a, b in zip(*found, strict=True))
