"""BLEU of generated completions."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from byrote.registry import register
from byrote.types import Floats
from byrote.utility.base import Form
from byrote.utility.generated import Generated

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU

ORDERS = 4
"""Words in the longest n-grams."""


@cache
def _metric(tokenize: str, lowercase: bool) -> BLEU:
    from sacrebleu.metrics import BLEU

    # The counts of one record do not turn on effective_order; without it sacrebleu warns at every sentence.
    return BLEU(lowercase=lowercase, tokenize=tokenize, effective_order=True)


@register("utility", "bleu")
class Bleu(Generated):
    """sacrebleu's corpus BLEU of all test records together, against one completion each.

    The geometric mean of the precisions of n-grams of 1 to 4 words over all generated text, times a penalty where it
    is shorter than the completions. It is no mean of the records' own BLEU. The report gives sacrebleu's signature,
    by default nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp with its version.

    Papineni, Roukos, Ward and Zhu 2002, "BLEU: a method for automatic evaluation of machine translation";
    Post 2018 (1804.08771), "A call for clarity in reporting BLEU scores".
    """

    metric: ClassVar[str] = "bleu"
    unit: ClassVar[str] = "0 to 100"
    form: ClassVar[Form] = "sums"
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 100.0)

    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    lowercase: bool = False

    @property
    def conditions(self) -> str:
        """The settings of generation, and what makes BLEU comparable between papers."""
        case = "lc" if self.lowercase else "mixed"
        signature = f"nrefs:1|case:{case}|eff:no|tok:{self.tokenize}|smooth:exp|version:{version('sacrebleu')}"
        return f"{self.decoding}; sacrebleu {signature}"

    def compare(self, said: str, wanted: str) -> tuple[float, ...]:
        """(2 + 2 x 4,) words generated and wanted; matching n-grams of each order; n-grams of each order."""
        found = _metric(self.tokenize, self.lowercase).sentence_score(said, [wanted])
        return tuple(map(float, (found.sys_len, found.ref_len, *found.counts, *found.totals)))

    def value(self, sums: Floats) -> Floats:
        """BLEU; an order without a match counts as half a match, the next such one as a quarter ("exp")."""
        said, wanted = sums[..., 0], sums[..., 1]
        matches, total = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
        halvings = np.cumsum(matches < 0.5, axis=-1)
        counted = np.where(matches < 0.5, 0.5**halvings, matches)
        known = (matches[..., 0] > 0.5) & (total > 0.5).all(-1)  # else there is nothing to take a mean of
        logs = np.log(counted / np.maximum(total, 1.0)).mean(-1)
        penalty = np.minimum(0.0, 1.0 - wanted / np.maximum(said, 1.0))
        score: Floats = np.where(known, 100.0 * np.exp(logs + penalty), 0.0)
        return score
