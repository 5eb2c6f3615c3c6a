"""Writes docs/metrics.md: measures of utility and of what comes out from the registry, all other metrics from here.

python tools/metric_table.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import NamedTuple

from byrote.attacks.base import Attack
from byrote.registry import discover
from byrote.utility.base import Utility

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/metrics.md"


class Metric(NamedTuple):
    """One value of the column `metric`, or a family of them; words in capitals stand for what varies."""

    name: str
    means: str
    interval: str
    null: str
    source: str = ""


DELONG = "DeLong, DeLong & Clarke-Pearson 1988; Newcombe 2006"
METRICS: dict[str, tuple[Metric, ...]] = {
    "membership": (
        Metric(
            "auc",
            "P(score of a member > that of a nonmember) + P(equal) / 2",
            "`delong` on the logit scale; `newcombe` near 0 and 1; `group-bootstrap` where records are copies",
            "the same attack on the untuned model and the same split; 0.5, stated, of attacks that compare with it",
            DELONG,
        ),
        Metric(
            "auc-lift",
            "AUC less that of the same attack on the untuned model, on the same records",
            "`delong-paired`, by square-and-add",
            "0",
            DELONG,
        ),
        Metric(
            "tpr@fpr=F",
            "the largest share of members whose score lies above a threshold that at most a share F of the nonmembers "
            "passes; needs 10 / F nonmembers",
            "`clopper-pearson` for the share joined with the order statistics of the threshold",
            "that of the untuned model; F where that is stated",
            "Carlini et al. 2022, arXiv 2112.03570; Zou & Donner 2008",
        ),
        Metric(
            "partial-auc@fpr=0.1",
            "(1 + (A - m) / (M - m)) / 2, with A the area under the ROC curve up to FPR 0.1, m = 0.1^2 / 2, M = 0.1: "
            "0.5 is chance, 1 perfect; needs 100 nonmembers",
            "`linearised` from each record's influence; `group-linearised`; `newcombe` where few are out of order",
            "as of `auc`",
            "McClish 1989",
        ),
        Metric(
            "balanced-accuracy",
            "(1 + TPR - FPR) / 2, each half of the groups judged by the threshold that is best on the other half",
            "`clopper-pearson` of both rates, joined",
            "as of `auc`",
            "Yeom et al. 2018, arXiv 1709.01604",
        ),
        Metric(
            "p-value",
            "of a whole set: one-sided test that members score no higher than nonmembers on average",
            "none: under the null every value is equally likely",
            "the untuned model's; absent where that is below 0.05",
            "Maini et al. 2024, arXiv 2406.06443",
        ),
        Metric(
            "auc-vs-METHOD",
            "AUC less that of another method at the same privacy level, on the same records",
            "`delong-paired`; over seeds as everything",
            "0",
            DELONG,
        ),
        Metric(
            "holm-p-vs-METHOD",
            "its two-sided p-value, adjusted for all pairs of the study",
            "none: it is a statement about an interval",
            "none",
            "Holm 1979",
        ),
        Metric(
            "auc-vs-none",
            "a private run's AUC less that of the same method without privacy",
            "`delong-paired`",
            "0",
            DELONG,
        ),
        Metric(
            "tpr@fpr=0.01-vs-loss",
            "of attacks with shadow models: TPR at 1% FPR less that of the loss attack on the same records",
            "`group-bootstrap` over paired draws",
            "0",
        ),
    ),
    "extraction": (
        Metric(
            "MEASURE",
            "one of the numbers in the table above, of members; with the slice `nonmembers` of the control",
            "`clopper-pearson` of shares; `linearised` of means",
            "the untuned model's, on the same records",
        ),
        Metric(
            "MEASURE-vs-nonmembers", "members less nonmembers", "`mover`", "the untuned model's", "Zou & Donner 2008"
        ),
        Metric(
            "MEASURE-excess-vs-nonmembers",
            "what members have more than by the untuned model, less the same of nonmembers: what was learned by rote",
            "`mover`",
            "0",
            "Zou & Donner 2008",
        ),
        Metric(
            "exposure",
            "log2(N + 1) - log2(rank of a canary among N controls of its family), mean over canaries",
            "`two-sample-jackknife` over canaries and controls",
            "the untuned model's on the same canaries",
            "Carlini et al. 2019, arXiv 1802.08232",
        ),
        Metric(
            "exposure-extrapolated",
            "-log2 of the tail of a skew-normal law that is fitted to the controls' scores, in logarithms throughout",
            "`two-sample-jackknife`",
            "the untuned model's",
            "Carlini et al. 2019, arXiv 1802.08232",
        ),
        Metric("exposure-maximum", "log2(N + 1): what N controls can show", "none: known", "none"),
    ),
    "poisoning": (
        Metric(
            "share",
            "mislabelled records whose wrong label is predicted",
            "`clopper-pearson`",
            "the first of `nulls`",
            "Ma et al. 2024, arXiv 2411.15831",
        ),
        Metric("log-prob", "mean log-probability of the wrong label, in nats", "`linearised`", "the first of `nulls`"),
        Metric(
            "auc",
            "mislabelled members against mislabelled nonmembers, by `log-prob`",
            "as above",
            "the first of `nulls`",
        ),
        Metric(
            "MEASURE@NULL", "the same by a null: `left-out`, `untuned`, `rightly-labelled`", "as of MEASURE", "none"
        ),
        Metric(
            "one-minus-auc@rightly-labelled",
            "1 - AUC of the same records under their true labels: the null of Ma 2024",
            "as of `auc`",
            "none",
            "Ma et al. 2024, arXiv 2411.15831",
        ),
        Metric(
            "MEASURE-vs-NULL",
            "the difference to a null, paired by record",
            "`agresti-min` of shares, `linearised` of means, `delong-paired` of AUCs",
            "0",
            "Agresti & Min 2005",
        ),
        Metric("MEASURE-vs-nonmembers", "mislabelled members less mislabelled nonmembers", "`welch`", "0"),
        Metric(
            "MEASURE-excess-vs-nonmembers", "the difference to the first null, less that of nonmembers", "`mover`", "0"
        ),
        Metric(
            "MEASURE-excess-vs-none",
            "the difference to the left-out null, less that without privacy",
            "`linearised`",
            "0",
        ),
    ),
    "utility": (
        Metric(
            "MEASURE-of-the-records",
            "the same of the test records' own text, where no value is good by itself; beside the untuned model",
            "as the measure's",
            "none",
        ),
        Metric(
            "MEASURE-vs-none",
            "a private run's number less that of the same method without privacy, by record; the ratio of perplexities",
            "as of MEASURE",
            "0; 1 of a ratio",
        ),
    ),
    "privacy": (
        Metric("epsilon", "spent up to this epoch, at `delta`; n is the steps", "none: known", "none"),
        Metric(
            "epsilon_rdp",
            "the same by the looser RDP accountant",
            "none: known",
            "none",
            "Mironov 2017, arXiv 1702.07476",
        ),
        Metric("noise_multiplier", "standard deviation of the noise over `clip_norm`", "none: known", "none"),
        Metric("clip_norm", "the largest L2 norm of one unit's gradient", "none: known", "none"),
        Metric("sampling_rate", "expected batch size over declared units", "none: known", "none"),
        Metric("steps", "optimiser steps done, empty batches counted", "none: known", "none"),
        Metric(
            "epsilon_lower_bound",
            "what coin-flip canaries prove of epsilon, by the estimator in `name`",
            "`one-sided`, 95%",
            "0",
            "Steinke et al. 2023, arXiv 2305.08846; Mahloujifar et al. 2024, arXiv 2410.22235; "
            "Jagielski et al. 2020, arXiv 2006.07709; Nasr et al. 2023, arXiv 2302.07956",
        ),
        Metric("epsilon_ceiling", "what a perfect attacker would have proved on as many canaries", "none: known", "0"),
        Metric(
            "ledger_p_value",
            "the largest chance of so many rightly guessed coins in a training with the ledger's account",
            "none: it bounds a probability",
            "none",
            "Mahloujifar et al. 2024, arXiv 2410.22235",
        ),
        Metric("epsilon_of_group", "the ledger's epsilon for the n copies of a canary together", "none: known", "none"),
    ),
    "cost": (
        Metric("seconds", "wall-clock, of `training`, `scoring`, `attacks` or `generation`", "none: counted", "none"),
        Metric("tokens_per_second", "trained tokens, padding left out", "none: counted", "none"),
        Metric("peak_memory_bytes", "of the process, or of the GPU, in training", "none: counted", "none"),
        Metric("trainable_parameters", "that require gradients", "none: counted", "none"),
        Metric("total_parameters", "of the model as tuned", "none: counted", "none"),
        Metric("stored_bytes", "of the tuned weights that are kept", "none: counted", "none"),
    ),
}
FORMS = {
    "mean": "mean over records",
    "exp": "exponential of a weighted mean",
    "rate": "share of records",
    "sums": "of all records together",
}
INTERVALS = {
    "mean": "`linearised`",
    "exp": "`linearised`, on the logarithm",
    "rate": "`clopper-pearson`",
    "sums": "`jackknife`",
}

BETTER = {True: "higher", False: "lower", None: "nearest to the records' own"}

INTRODUCTION = """# Metrics

`tools/metric_table.py` writes this page: do not edit it by hand.

What the columns `kind`, `name` and `metric` of `results.csv` may say, how each number is made, by which interval, and
what it is compared with. [How leakage is measured](statistics.md) explains them; the other columns are in
[the results schema](results-schema.md). Near-copies count once in every interval (`group-...`), and over several seeds
each number is their mean with the wider of `t-over-seeds` and `within-seed`.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## How useful the model is\n", _utilities(), "", "## What comes out\n", _extractions()]
    for kind, metrics in METRICS.items():
        parts += ["", f"## Kind `{kind}`\n", _table(metrics)]
    return "\n".join(parts) + "\n"


def _utilities() -> str:
    rows = ["| measure | is | of | better | form | interval |", "|---|---|---|---|---|---|"]
    details = []
    for name, kind in utilities().items():
        direction = BETTER[kind.higher_is_better]
        rows.append(
            f"| [{name}](#{name}) | {kind.summary()} | {direction} | {FORMS[kind.form]} | {INTERVALS[kind.form]} |"
        )
        details += ["", f"### {name}", "", linked(inspect.cleandoc(kind.__doc__ or ""))]
    return "\n".join([*rows, *details])


def utilities() -> dict[str, type[Utility]]:
    """byrote's own measures of utility."""
    known = discover("utility").items()
    return {name: kind for name, kind in known if issubclass(kind, Utility) and kind.__module__.startswith("byrote.")}


def extractions() -> dict[str, dict[str, str]]:
    """The numbers of each measure of what comes out, and whether each is a share or a mean."""
    known = discover("attack").items()
    own = {
        n: k
        for n, k in known
        if issubclass(k, Attack) and k.kind == "extraction" and k.__module__.startswith("byrote.")
    }
    return {name: dict(kind().metrics) for name, kind in own.items()}  # type: ignore[attr-defined]


def _extractions() -> str:
    rows = [
        "What each measure says stands [with the attacks](attacks.md#extraction).",
        "",
        "| measure | numbers |",
        "|---|---|",
    ]
    for name, metrics in extractions().items():
        numbers = ", ".join(f"`{metric}` ({form} of records)" for metric, form in metrics.items())
        rows.append(f"| [{name}](attacks.md#{name}) | {numbers} |")
    return "\n".join(rows)


def _table(metrics: tuple[Metric, ...]) -> str:
    rows = ["| metric | is | interval | null | source |", "|---|---|---|---|---|"]
    return "\n".join(
        [*rows, *(f"| `{m.name}` | {m.means} | {m.interval} | {m.null} | {linked(m.source)} |" for m in metrics)]
    )


def linked(text: str) -> str:
    """arXiv ids as links."""
    return re.sub(r"(?<![\d/\[])(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", text)


def known(kind: str, metric: str) -> bool:
    """Whether the page says what a metric of a kind is."""
    measures = {number for numbers in extractions().values() for number in numbers}
    measures |= {kind.metric for kind in utilities().values()} | {"share", "log-prob", "auc"}
    own = "|".join(map(re.escape, sorted(measures)))
    nulls = "left-out|untuned|rightly-labelled"
    words = {"MEASURE": f"(?:{own})", "NULL": f"(?:{nulls})", "METHOD": ".+", "F": r"0\.\d+"}
    patterns = [
        re.sub(r"MEASURE|NULL|METHOD|\bF\b", lambda m: words[m[0]], re.escape(one.name)) for one in METRICS[kind]
    ]
    patterns += [f"(?:{own})"] if kind in ("utility", "extraction") else []
    return any(re.fullmatch(pattern, metric) for pattern in patterns)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
