"""What a study was and which runs answer it, as far as it has come."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from byrote._version import __version__
from byrote.runner.environment import describe
from byrote.runner.extraction import extraction_of
from byrote.store import Manifest
from byrote.study import as_spec
from byrote.types import Splits, ordinary

if TYPE_CHECKING:
    from byrote.runner.study import StudyRun


def manifest_of(run: StudyRun, splits: Mapping[int, Splits]) -> Manifest:
    """As it stands now."""
    study, context = run.study, run.context
    return Manifest(
        byrote=__version__,
        name=study.name,
        question=study.question,
        model=study.model,
        model_description=context.model.description,
        data=study.data.source,
        data_description=context.data.description,
        data_licence=context.data.licence,
        study=study.model_dump(mode="json"),
        runs=os.path.relpath(context.store.root.resolve(), run.out.resolve()),
        attacks=[as_spec(attack) for attack in study.attacks],
        controls=[as_spec(attack) for attack in run.controls],
        utility=[as_spec(measure) for measure in study.utility],
        positive_control=run.control,
        cells=run.cells,
        split_folders={str(seed): context.split_folder(seed).id for seed in splits},
        extractions={str(seed): extraction_of(context, seed) for seed in splits},
        splits={str(seed): _sizes(part) for seed, part in splits.items()},
        warnings=_warnings(run),
        environment=describe(context.device),
    )


def _warnings(run: StudyRun) -> list[str]:
    warnings = list(run.warned)
    bad = sum(run.context.data.bad_rows.values())
    if bad:
        skipped = "1 bad row was skipped" if bad == 1 else f"{bad:,} bad rows were skipped, the first"
        warnings.append(f"{skipped}: {'; '.join(run.context.data.first_bad)}")
    if run.study.trust_remote_code:
        warnings.append("The model's repository was allowed to run its own code (trust_remote_code).")
    return warnings + list(run.context.given.notes if run.context.given is not None else ())


def _sizes(splits: Splits) -> dict[str, int]:
    sizes = {name: len(ordinary(records)) for name, records in splits.parts()}
    made = (("canaries", splits.members), ("canary controls", splits.nonmembers))
    sizes |= {name: count for name, records in made if (count := sum(bool(record.family) for record in records))}
    return sizes | {f"dropped: {reason}": count for reason, count in splits.dropped.items()}
