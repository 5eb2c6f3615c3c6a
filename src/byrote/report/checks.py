"""What a reader should know before trusting a number: sample sizes, baselines, damage, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from byrote.report.accounts import banners
from byrote.report.controls import broken_splits, unseen
from byrote.report.epsilon_rows import LOWER_BOUND, P_VALUE
from byrote.report.evidence import Evidence
from byrote.report.formats import listed
from byrote.report.limits import crossed
from byrote.report.measures import Attack, label, level_label, unknown
from byrote.report.pieces import LEDGER, SETS, SPLITS
from byrote.report.rows import Row
from byrote.statistics.comparison import holm
from byrote.statistics.interval import few_seeds
from byrote.statistics.null import permutation_null
from byrote.store import Cell

DECISIVE = ("torch", "transformers", "peft", "device")
FEW_MEMBERS = 100
NEEDED_AT_ONE_PERCENT = 1000
REFUTED = 0.05
"""Of a ledger: the chance, corrected for all that were tested, below which what was guessed contradicts it."""
SHOWN = 4  # runs that a warning names one by one


def cell_label(cell: Cell) -> str:
    """A cell in words: 'lora, r 16, ε 8, seed 1'."""
    return f"{_name(cell)}, seed {cell.seed}"


def _name(cell: Cell) -> str:
    """A cell in words without its seed."""
    name = "the untuned base model" if cell.method == "none" else label(cell.method, cell.settings)
    return f"{name}, {level_label(cell.privacy)}" if cell.privacy != "none" else name


def all_warnings(evidence: Evidence, rows: Sequence[Row]) -> list[str]:
    """Every warning once, the study's own first, in plain sentences."""
    found = [
        *contradictions(evidence, rows),
        *broken_splits(evidence, rows),
        *unseen(evidence),
        *banners(evidence),
        *crossed(evidence, rows),
        *evidence.manifest.warnings,
        *_failures(evidence),
        *_damage(evidence),
        *_sample_sizes(evidence),
        *_baselines(evidence, rows),
        *_swapped(evidence, rows),
        *_copies(evidence),
        *_environments(evidence),
        *_unscored(evidence),
        *_seeds(evidence),
        *_ends(evidence),
        *_notes(evidence),
        *(
            f"{what} is not installed here: who can run it, and its null, are not known."
            for what in unknown(evidence.manifest)
        ),
    ]
    return list(dict.fromkeys(found))


def contradictions(evidence: Evidence, rows: Sequence[Row]) -> list[str]:
    """A banner for each private run whose coin-flip canaries were guessed better than its ledger allows."""
    tests = [row for row in rows if row.metric == P_VALUE and row.value is not None]
    cells = {(cell.run_id, cell.seed): cell for cell in evidence.done()}
    found = []
    for row, p in zip(tests, holm([row.value or 0.0 for row in tests]), strict=True):
        if p >= REFUTED:
            continue
        ledger = evidence.pieces[row.run_id].ledger
        bounds = [
            f"{one.name} {one.value:.3g}"
            for one in rows
            if (one.run_id, one.seed, one.slice, one.metric) == (row.run_id, row.seed, row.slice, LOWER_BOUND)
            and one.value
        ]
        said = "" if ledger is None else f"of ε {ledger.epsilon:.3g} at δ {ledger.delta:.2g} "
        found.append(
            f"The audit contradicts the ledger of {cell_label(cells[row.run_id, row.seed or 0])}: so many coins of its "
            f"{row.slice} canaries were guessed rightly that a training with its account {said}would give them with a "
            f"chance of at most {p:.2g}. Lower bounds on epsilon: {', '.join(bounds) or 'none above 0'}. "
            "Do not rely on this epsilon before the error in the private training is found."
        )
    return found


def _failures(evidence: Evidence) -> Iterator[str]:
    seeds: dict[tuple[str, str], list[str]] = {}
    for cell in evidence.manifest.cells:
        if cell.status == "failed":
            name = _name(cell)
            seeds.setdefault((name, cell.error or "no reason was recorded"), []).append(str(cell.seed))
    for (name, error), of in seeds.items():
        yield f"{name} failed with {'seeds' if len(of) > 1 else 'seed'} {', '.join(of)} and has no numbers: {error}"


def _damage(evidence: Evidence) -> Iterator[str]:
    names = {
        run_id: f"{null} null of {cell_label(cell)}" for cell in evidence.done() for null, run_id in cell.nulls.items()
    }
    names |= {cell.run_id: cell_label(cell) for cell in reversed(evidence.done())}
    nulls = {run_id for cell in evidence.done() for run_id in cell.nulls.values()} - {c.run_id for c in evidence.done()}
    bases = {cell.run_id for cell in evidence.done() if cell.method == "none"}  # an attack may not read them
    for run_id, pieces in evidence.pieces.items():
        for broken in (name for name in pieces.broken if name != LEDGER):  # the banners tell of that
            yield (
                f"{broken} of run {run_id} ({names.get(run_id, 'not in this study')}) is not what was written, so its "
                "numbers are left out. Run the study again: only that piece is made anew."
            )
        scored = [a for a in evidence.attacks if not (a.null_is_stated and run_id in bases)]
        measured = evidence.utilities and run_id not in nulls
        needed = [*(["scores.parquet"] if scored else []), *(["utility.parquet"] if measured else [])]
        for missing in (name for name in pieces.missing if name in (*needed, SETS) and run_id in names):
            yield f"{missing} of run {run_id} ({names[run_id]}) is missing. Run the study again to make it."


def _sample_sizes(evidence: Evidence) -> Iterator[str]:
    sizes = {
        seed: {split: len(evidence.part_of(seed, split)) for split in evidence.splits[seed]}
        for seed in evidence.split_seeds
    }
    for seed in evidence.seeds:
        if seed not in sizes:
            yield f"{SPLITS} has no records of seed {seed}, so it has no membership numbers. Run the study again."
    members = min((size.get("member", 0) for size in sizes.values()), default=0)
    nonmembers = min((size.get("nonmember", 0) for size in sizes.values()), default=0)
    if sizes and members < FEW_MEMBERS:
        yield (
            f"Only {members} members: intervals are wide, and a method that leaks a little looks like one that does "
            f"not. {FEW_MEMBERS} or more are better."
        )
    if sizes and evidence.attacks and nonmembers < NEEDED_AT_ONE_PERCENT:
        yield (
            f"TPR at 1% FPR cannot be resolved: it needs {NEEDED_AT_ONE_PERCENT:,} nonmembers, this study has "
            f"{nonmembers:,}."
        )


def _baselines(evidence: Evidence, rows: Sequence[Row]) -> Iterator[str]:
    found: dict[int, list[str]] = {}
    blind = {attack.name for attack in evidence.controls}  # of the split, and not of a model: the banner tells of it
    for row in rows:
        if (
            row.method != "none"
            or row.name in blind
            or row.metric != "auc"
            or row.slice
            or row.seed is None
            or row.low is None
            or row.high is None
        ):
            continue
        if not row.low <= 0.5 <= row.high:
            found.setdefault(row.seed, []).append(f"{row.name} {row.value:.3f} [{row.low:.3f}, {row.high:.3f}]")
    for seed, attacks in found.items():
        yield (
            f"The split of seed {seed} has a baseline of its own: the untuned base model, which saw no member, has AUC "
            f"{', '.join(attacks)} on it. Read these attacks by their lift over the base model, not by their AUC."
        )


def null_ranges(evidence: Evidence) -> list[str]:
    """For each attack whose null is stated, where its AUC falls when membership means nothing.

    Measured on the first tuned run that has scores of the attack, since it turns on the numbers of records.
    """
    attacks = [attack for attack in evidence.attacks if attack.null_is_stated]
    return [sentence for attack in attacks if (sentence := _null_range(evidence, attack))]


def _null_range(evidence: Evidence, attack: Attack) -> str:
    for cell in evidence.done():
        end = evidence.last_epoch(cell)
        if cell.method == "none" or end is None:
            continue
        sides = evidence.sides(cell, attack, end, sets=False)
        scored = sides.scored() if sides is not None else None
        if scored is None or not len(scored.members) or not len(scored.nonmembers) or scored.shared_groups:
            continue
        null = permutation_null(scored.members, scored.nonmembers, *scored.groups, permutations=1000)
        return (
            f"{attack.label}: with member and nonmember labels permuted, its AUC lies between {null.low:.3f} and "
            f"{null.high:.3f} in 95 of 100 draws (mean {null.mean:.3f}); 1,000 draws of "
            f"{len(scored.members):,} members and {len(scored.nonmembers):,} nonmembers, as one seed has."
        )
    return ""


def _swapped(evidence: Evidence, rows: Sequence[Row]) -> Iterator[str]:
    """Where a tuned model finds the nonmembers more familiar by all attacks that can tell."""
    found = [row for row in rows if row.method == "tuned" and row.metric == "auc" and not row.slice and row.epoch]
    clear = [row for row in found if row.low is not None and row.high is not None and not row.low <= 0.5 <= row.high]
    if evidence.audited and clear and all(row.high is not None and row.high < 0.5 for row in clear):
        yield (
            f"Every attack that tells the two sides apart ({', '.join(row.name for row in clear)}) takes the "
            "nonmembers for the members: were the two given the wrong way round?"
        )


def _copies(evidence: Evidence) -> Iterator[str]:
    for seed in evidence.split_seeds:
        member, nonmember = (set(evidence.part(seed, split).groups) for split in ("member", "nonmember"))
        if member & nonmember:
            yield f"Copies of one text are on both sides of the split of seed {seed}: AUC is then biased toward 0.5."


def _environments(evidence: Evidence) -> Iterator[str]:
    """Where runs of one study were made by different libraries or devices."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell in evidence.runs():
        environment = evidence.pieces[cell.run_id].environment
        named = environment.get("versions", {}) | {"device": environment.get("device")}
        for what in DECISIVE:
            if named.get(what):
                found.setdefault(what, {}).setdefault(str(named[what]), []).append(cell_label(cell))
    for what, values in found.items():
        if len(values) > 1:
            each = "; ".join(f"{value}: {', '.join(_few(names))}" for value, names in values.items())
            yield f"Runs of this study differ in {what}, which can move their numbers apart ({each})."


def _few(names: Sequence[str]) -> Sequence[str]:
    return names if len(names) <= SHOWN else [*names[:SHOWN], f"and {len(names) - SHOWN} more"]


def _unscored(evidence: Evidence) -> Iterator[str]:
    """Records that attacks could not score, in a sentence for each attack and what came of the same records."""
    said: dict[tuple[Attack, str], list[Cell]] = {}
    for cell in evidence.done():
        for attack in evidence.attacks:
            for epoch in evidence.epochs(cell)[-1:]:
                sides = evidence.sides(cell, attack, epoch)
                if sides is None or not sides.reasons:
                    continue
                total = len(sides.members) + len(sides.nonmembers)
                reason, count = Counter(sides.reasons).most_common(1)[0]
                rest = "" if count == len(sides.reasons) else f", and {len(sides.reasons) - count} for other reasons"
                what = f"{len(sides.reasons)} of {total} records of {{of}} ({reason}: {count}{rest})"
                said.setdefault((attack, what), []).append(cell)
    for (attack, what), cells in said.items():
        names = _few(list(dict.fromkeys(map(_name, cells))))
        seeds = sorted({cell.seed for cell in cells})
        of = f"{listed(names)}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        yield f"{attack.label} could not score {what.replace('{of}', of)}; they are left out of its numbers."


def _seeds(evidence: Evidence) -> Iterator[str]:
    seeds = len(evidence.seeds)
    if evidence.audited:
        yield (
            "One model, tuned elsewhere: the intervals cover which records were asked about, not how much another "
            "training on other records would differ."
        )
    elif seeds == 1:
        yield (
            "One seed: the intervals cover which records were drawn, not how much another training run on another "
            "split would differ. Give five seeds or more to learn that."
        )
    elif sentence := few_seeds(seeds):
        yield f"{_capital(sentence)}."


def _ends(evidence: Evidence) -> Iterator[str]:
    """Methods of which some seeds have no numbers, or trained for fewer epochs than others."""
    seeds: dict[str, dict[int, int | None]] = {}
    for cell in evidence.done():
        seeds.setdefault(_name(cell), {})[cell.seed] = evidence.last_epoch(cell)
    for name, ends in seeds.items():
        if len(ends) < len(evidence.seeds):
            yield f"{name} has numbers of {len(ends)} of {len(evidence.seeds)} seeds."
        if len(set(ends.values())) > 1:
            each = ", ".join(f"{epoch} with seed {seed}" for seed, epoch in ends.items())
            yield (
                f"{name} ended at different epochs ({each}): the tables and the answer pool each seed's own last "
                "epoch, which results.csv gives in the rows without an epoch."
            )


def _notes(evidence: Evidence) -> Iterator[str]:
    """Notes of the runs, said once with the methods that they concern."""
    noted: dict[str, list[str]] = {}
    for cell in evidence.manifest.cells:
        for note in cell.notes:
            noted.setdefault(note, []).append(_name(cell))
    tuned = {_name(cell) for cell in evidence.manifest.cells if cell.method != "none"}
    for note, methods in noted.items():
        everyone = len(tuned) > 1 and tuned <= set(methods)
        yield f"{'All methods' if everyone else '; '.join(dict.fromkeys(methods))}: {note.rstrip('.')}."
    dropped: dict[str, list[str]] = {}
    for seed, sizes in evidence.manifest.splits.items():
        left_out = {
            name.removeprefix("dropped: "): size for name, size in sizes.items() if name.startswith("dropped: ")
        }
        counts = [f"{name} {size}" for name, size in sorted(left_out.items()) if size]
        if counts:
            dropped.setdefault(", ".join(counts), []).append(seed)
    for counted, seeds in dropped.items():
        which = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(seeds)}"
        yield f"Records left out before the split of {which}: {counted}."


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
