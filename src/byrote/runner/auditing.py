"""An audit: an already tuned model, members and nonmembers as somebody tells them, and nothing trained.

It is a study with one cell. What differs is where the weights and the split come from; scoring, attacks, store and
report are a study's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from byrote.attacks.base import Attack
from byrote.data.base import Columns, Loaded
from byrote.data.load import load as load_data
from byrote.data.membership import from_column, from_files, from_texts, told
from byrote.methods.tuned import Tuned
from byrote.registry import Component, make
from byrote.report.results import Results
from byrote.runner.audited import Choice, in_memory, on_disk
from byrote.runner.context import Given
from byrote.runner.progress import Progress
from byrote.runner.study import StudyRun, default_folder
from byrote.store import Store
from byrote.study.model import ATTACKS
from byrote.study.reading import study_from
from byrote.types import ByroteError, Splits, StudyError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

QUESTION = "What has this model learned by rote of the records that it was tuned on?"
Texts = Sequence[str] | str | Path


def audit(
    model: PreTrainedModel | str | Path | None = None,
    members: Texts = (),
    nonmembers: Texts = (),
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    adapter: str | Path | None = None,
    base: PreTrainedModel | str | Path | None = "auto",
    population: Texts | None = None,
    attacks: Sequence[Any] | None = None,
    text: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    on_bad_rows: Literal["error", "skip"] = "error",
    max_length: int = 512,
    dtype: str = "float32",
    out: str | Path | None = None,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Attack a model that is already tuned, and return what that showed: what `byrote audit` does.

    `model` is a transformers model in memory, with a PEFT adapter or without, a folder or a Hub id; a folder may hold
    an adapter alone. A model in memory is left as it is: weights, training mode, gradients and flags. `members` are
    texts that it was tuned on and `nonmembers` texts of the same kind that it was not: lists of texts, or the names
    of files (then `text`, or `prompt` and `completion`, name the columns). `population` are further texts that it was
    not tuned on, which some attacks calibrate on and perplexity is measured on. An empty text, or a row
    that cannot be read, is an error that names it; with `on_bad_rows="skip"` such ones are left out and counted.

    `base` is the untuned model: "auto" takes what lies under an adapter, None compares with nothing. `attacks` are
    names as in a study. Without `out` nothing is left on the disk. Raises ByroteError.
    """
    given = {"members": members, "nonmembers": nonmembers} | ({} if population is None else {"population": population})
    columns = Columns(text=text, prompt=prompt, completion=completion)
    settings = {"attacks": attacks, "max_length": max_length, "dtype": dtype}
    records = told(_parts(given, columns, on_bad_rows))
    if isinstance(model, str | Path) or model is None:
        if tokenizer is not None:
            raise StudyError("tokenizer goes with a model in memory; that of a folder is in the folder")
        choice = on_disk(_named(model), _named(adapter), _of_disk(base))
    else:
        if adapter is not None:
            raise StudyError("adapter goes with the name of a model; one in memory has its adapter on it")
        choice = in_memory(model, tokenizer, base, records[1], max_length)
    sources = " and ".join(
        str(one) if isinstance(one, str | Path) else "texts in memory" for one in (members, nonmembers)
    )
    source = "texts in memory" if sources == "texts in memory and texts in memory" else sources
    if out is not None:
        return do_audit(choice, records, columns, source, Path(out), store, settings, progress)
    with tempfile.TemporaryDirectory() as place:
        return do_audit(choice, records, columns, source, Path(place) / "audit", store, settings, progress)


def audit_files(
    model: str | None,
    adapter: str | None,
    base: str,
    sources: Mapping[str, str],
    split_column: str | None,
    columns: Columns,
    *,
    on_bad_rows: str,
    settings: Mapping[str, Any],
    out: Path | None,
    store: Path | None,
    progress: Progress,
    show_text: bool = False,
) -> tuple[Results, Path]:
    """The audit that the command line asks for, and where its results are.

    `sources` are those of "members", "nonmembers" and "population", or "data" alone with its `split_column`.
    """
    choice = on_disk(model, adapter, base)
    if "data" in sources:
        parts = from_column(sources["data"], str(split_column), columns, on_bad_rows)
        source = sources["data"]
    else:
        parts = from_files(sources, columns, on_bad_rows)
        source = " and ".join(sources[part] for part in ("members", "nonmembers"))
    place = out if out is not None else default_folder(f"audit-{Path(choice.tuned.reference).name}")
    return do_audit(choice, told(parts), columns, source, place, store, settings, progress, show_text), place


def _parts(given: Mapping[str, Texts], columns: Columns, on_bad_rows: str) -> dict[str, Loaded]:
    """Files where names are given, else texts."""
    files = {part: str(one) for part, one in given.items() if isinstance(one, str | Path)}
    if len(files) == len(given):
        return from_files(files, columns, on_bad_rows)
    named = {part: load_data(source, columns, on_bad_rows=on_bad_rows) for part, source in files.items()}
    lists = {part: one for part, one in given.items() if not isinstance(one, str | Path)}
    return from_texts(lists, on_bad_rows) | named


def _named(reference: str | Path | None) -> str | None:
    return None if reference is None else str(reference)


def _of_disk(base: Any) -> str:
    if base is None:
        return "none"
    if isinstance(base, str | Path):
        return str(base)
    raise StudyError("the base is an object in memory and the tuned model is not: give both in one way")


def do_audit(
    choice: Choice,
    records: tuple[Loaded, Splits],
    columns: Columns,
    source: str,
    out: Path,
    store: str | Path | None,
    settings: Mapping[str, Any],
    progress: Progress | None,
    show_text: bool = False,
) -> Results:
    """Score, attack and report one tuned model. Raises ByroteError where it cannot be scored."""
    data, splits = records
    attacks, said = _attacks(settings["attacks"], choice.untuned)
    study = study_from(
        {
            "name": out.resolve().name or "audit",
            "question": QUESTION,
            "model": choice.reference,
            "revision": choice.revision,
            "untuned": choice.untuned,
            "positive_control": False,  # it would be trained
            "data": {
                "source": source,
                **columns.named(),
                "members": len(splits.members),
                "nonmembers": len(splits.nonmembers),
            },
            "methods": [Tuned(model=choice.named_model, adapter=choice.named_adapter)],
            "attacks": attacks,
            "utility": ["perplexity"] if splits.test else [],
            "max_length": settings["max_length"],
            "dtype": choice.dtype or settings["dtype"],
            "device": choice.device,
        },
        "the audit",
    )
    given = Given(choice.tuned, data, splits, choice.base, (*choice.notes, *said))
    place = Store(Path(store) if store is not None else out / "runs")
    results = StudyRun(study, Path(), out, place, progress or Progress(), given).do(show_text=show_text)
    if results.failed:
        raise ByroteError(results.failed[0].error)
    return results


def _compares(attack: Component) -> bool:
    """Whether it cannot be made where no untuned model is known."""
    return isinstance(attack, Attack) and bool(attack.needs & {"base", "neighbours"})


def _attacks(asked: Sequence[Any] | None, untuned: bool) -> tuple[list[Component], list[str]]:
    """The attacks that can be made, and a sentence on each that cannot, or can with a doubt. Raises StudyError."""
    found = [one if isinstance(one, Component) else make("attack", one) for one in asked or ATTACKS["tokens"]]
    made, said = [], []
    for attack in found:
        if not untuned and _compares(attack):
            said.append(f"The attack {attack.name} was left out: it compares with an untuned model.")
        elif isinstance(attack, Attack) and attack.trainings:
            said.append(f"The attack {attack.name} was left out: it trains shadow models, and an audit trains nothing.")
        else:
            made.append(attack)
            if not untuned and isinstance(attack, Attack) and attack.learns and not attack.blind:
                said.append(
                    f"The null 0.5 of {attack.name} is an assumption: it learns whatever differs between these members "
                    "and nonmembers, and no untuned model was there to measure that on."
                )
    if not made:
        raise StudyError(" ".join([*said, "No attack is left: give --base, or other attacks."]))
    return made, said
