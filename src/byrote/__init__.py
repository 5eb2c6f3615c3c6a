"""byrote: what has a fine-tuned language model learned by rote?

`run(study)` does what `byrote run` does and returns the same `Results`, or the `VariedResults` of a study that varies
something; `audit(model=..., members=..., nonmembers=...)` attacks a model that is already tuned, in memory or on the
disk. The public names are loaded when they are first used, so that importing byrote stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from byrote._version import __version__

if TYPE_CHECKING:
    from byrote.methods.bottleneck import know_bottleneck
    from byrote.report.axes import VariedResults
    from byrote.report.results import Results
    from byrote.runner import audit, run
    from byrote.study import Study
    from byrote.types import ByroteError, StudyError

__all__ = [
    "ByroteError",
    "Results",
    "Study",
    "StudyError",
    "VariedResults",
    "__version__",
    "audit",
    "know_bottleneck",
    "run",
]

_HOME = {
    "ByroteError": "byrote.types",
    "Results": "byrote.report.results",
    "Study": "byrote.study",
    "StudyError": "byrote.types",
    "VariedResults": "byrote.report.axes",
    "audit": "byrote.runner",
    "know_bottleneck": "byrote.methods.bottleneck",
    "run": "byrote.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'byrote' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
