"""Privacy that cannot be had: each request is refused in words that say which and why, before any step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from byrote.runner.study import run
from byrote.study import load_study
from byrote.types import StudyError
from small_study import count_work, study_of, write_study

pytestmark = pytest.mark.usefixtures("quick")


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"epsilon": 0}, "epsilon.*must be above 0, but is 0"),
    ({"epsilon": -1}, "epsilon.*must be above 0"),
    ({"noise_multiplier": 0}, "noise_multiplier.*must be above 0"),
    ({"epsilon": 8, "noise_multiplier": 1}, "epsilon, or noise_multiplier, and not both"),
    ({"delta": 0.01}, "give epsilon, or noise_multiplier"),
    ({"epsilon": 8, "delta": -0.1}, "delta.*between 0 and 1"),
    ({"epsilon": 8, "delta": 1}, "delta.*between 0 and 1"),
    ({"epsilon": 8, "clip_norm": 0}, "clip_norm.*must be above 0"),
    ({"epsilon": 8, "expected_batch_size": 11}, "expected_batch_size 11 is more than the 10 members"),
    ({"epsilon": 8, "expected_batch_size": 0}, "expected_batch_size"),
    ({"epsilon": 8, "unit": "group"}, "unit: group needs groups"),
    ({"epsilon": 8, "unit": "group", "groups": 5}, "unit: group needs data.group"),
    ({"epsilon": 8, "groups": 5}, "unit: record takes none"),
    ({"epsilon": 8, "records_per_group": 2}, "records_per_group belongs to unit: group"),
    ({"epsilon": 8, "max_grad_norm": 1}, "'clip_norm'"),
    ({"epsilon": 8, "clip": 1}, "clip_norm"),
    ({"epsilon": float("inf")}, "epsilon"),
    ({"epsilon": float("nan")}, "epsilon"),
    ({"epsilon": 8, "clip_norm": float("inf")}, "clip_norm"),
]


@pytest.mark.parametrize(("level", "words"), IMPOSSIBLE, ids=[json.dumps(level) for level, _ in IMPOSSIBLE])
def test_what_cannot_be_is_refused_in_words(folder: Path, tmp_path: Path, level: dict[str, Any], words: str) -> None:
    path = write_study(tmp_path / "s.yaml", folder, privacy=level)
    path.write_text(path.read_text().replace("Infinity", ".inf").replace("NaN", ".nan"))
    for read in (load_study, lambda path: run(path, tmp_path / "out")):
        with pytest.raises(StudyError, match=words) as error:
            read(path)
        assert re.search(r"s\.yaml, line \d+: privacy: ", str(error.value))


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ({"epsilon": 1e-7, "delta": 1e-9, "accountant": "rdp"}, "epsilon 1e-07 at delta 1e-09 is out of reach"),
        ({"epsilon": 1e6, "accountant": "rdp"}, "epsilon 1e.06 is no limit"),
    ],
    ids=str,
)
def test_an_epsilon_out_of_reach_fails_its_cell_before_any_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: dict[str, Any], words: str
) -> None:
    work = count_work(monkeypatch)
    results = run(study_of(folder, privacy=level), tmp_path)
    (failed,) = results.failed
    assert re.search(words, failed.error) and "fault of byrote" not in failed.error
    assert work["steps"] == 0
