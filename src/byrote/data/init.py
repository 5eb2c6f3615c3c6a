"""Writing a first study for a data file: what `byrote init` prints into a .yaml."""

from __future__ import annotations

import re

import yaml

from byrote.data.base import Columns
from byrote.data.describe import NEAR_DUPLICATES, ColumnSummary, FileSummary

WIDTH = 50  # the column at which the comments start


def study_text(summary: FileSummary, source: str | None = None) -> str:
    """A commented study of the file that runs as it stands.

    `source` is how the study should name the file, relative to the study's own folder; by default the
    study lies beside the file.
    """
    source = source or summary.path.name
    name = re.sub(r"[/\\\x00]", "-", summary.path.stem)
    lines = [
        *heading(summary),
        "",
        line("name: " + quoted(name), "what the results are called"),
        line("model: builtin:tiny", "the model to fine-tune; this one trains in seconds and needs no network"),
        line("", "others: builtin:smollm2-135m, a Hub id (HuggingFaceTB/SmolLM2-135M), a folder, a .gguf file"),
        "data:",
        line("  source: " + quoted(source), "the file, relative to this study"),
        *column_lines(summary),
        *size_lines(summary),
        line(f"  near_duplicates: {NEAR_DUPLICATES}", "records that share so much of their wording count as copies"),
        *bad_row_lines(summary),
        line("methods:", "what is compared; `byrote list methods` shows all"),
        line("  - full", "all weights"),
        line("  - lora", "low-rank matrices; {name: lora, r: 16} changes a setting"),
        line("  - prompt-tuning", "a few learned tokens before the text"),
        line("  # - head", "only the last layer; also prefix-tuning, p-tuning"),
        line(
            "attacks: [loss, reference, zlib, min-k, min-k++, ez-mia, wbc]",
            "how leakage is measured; `byrote list attacks`",
        ),
        line("utility: [perplexity]", "how usefulness is measured, on the test records"),
        line("epochs: 4", "passes over the members; each one is scored"),
        line("max_length: 256", "tokens of a record that count; longer ones are cut, and the report says how many"),
        line("learning_rate: auto", "each method's own best rate by validation loss; or a number"),
        line("seeds: [0]", "each seed draws the parts and trains anew; three or more show the spread"),
        line("# privacy: [none, {epsilon: 8}]", "beside each other; none alone is the default"),
    ]
    return "\n".join(lines) + "\n"


def heading(summary: FileSummary) -> list[str]:
    """What was found in the file."""
    left_out = summary.rows - summary.usable
    copies = f", {left_out:,} of them bad or copies" if left_out else ""
    lines = [
        f"# A byrote study of {quoted(summary.path.name)}: {summary.rows:,} rows{copies}; "
        f"half of the texts have {summary.median_words:,} words or more.",
        "# Which fine-tuning methods learn these records by rote, and what are they worth otherwise?",
        "# Run it with: byrote run THIS_FILE",
    ]
    if summary.usable < 400:
        lines.append("# With so few records the intervals will be wide: take the answer as a first look.")
    return lines


def column_lines(summary: FileSummary) -> list[str]:
    """The columns to read, and the other guesses as comments."""
    guess = summary.guess
    lines = []
    if guess.text:
        lines.append(line("  text: " + quoted(guess.text), "the column that is trained on"))
    if guess.prompt and guess.completion:
        lines.append(line("  prompt: " + quoted(guess.prompt), "the column with what is given"))
        lines.append(line("  completion: " + quoted(guess.completion), "the column with what is to be learned"))
    if guess.id:
        lines.append(line("  id: " + quoted(guess.id), "the column that names each record in the results"))
    if guess.group:
        lines.append(
            line("  group: " + quoted(guess.group), "whose record it is: one person's records stay in one part")
        )
    if guess.label:
        lines.append(line("  # label: " + quoted(guess.label), "the class, for classification"))
    others = unused(summary.columns, guess)
    if others:
        lines.append(line("", "not used: " + ", ".join(map(quoted, others))))
    return lines


def unused(columns: tuple[ColumnSummary, ...], guess: Columns) -> list[str]:
    """Names of the columns that the study does not mention."""
    return [column.name for column in columns if column.name not in guess.named().values()]


def size_lines(summary: FileSummary) -> list[str]:
    """How many records take which part."""
    members, nonmembers, validation, test = summary.sizes
    return [
        line(f"  members: {members}", f"records to train on, drawn at random from {summary.usable:,} usable ones"),
        line(f"  nonmembers: {nonmembers}", "records held back, which the attacks must tell from the members"),
        line(f"  validation: {validation}", "records that choose the learning rate"),
        line(f"  test: {test}", "records that measure usefulness"),
    ]


def bad_row_lines(summary: FileSummary) -> list[str]:
    """What to do with rows that cannot be read."""
    if not summary.bad_rows:
        return [line("  on_bad_rows: error", "stop at a row that cannot be read; or skip, and count them")]
    total = sum(summary.bad_rows.values())
    example = re.sub(r"[^ -~\u00a0-\ud7ff]", "?", summary.first_bad[0])
    return [
        line("  on_bad_rows: skip", f"bad rows ({total:,} here) are left out and counted; 'error' stops instead"),
        line("", f"the first: {example}"),
    ]


def line(setting: str, comment: str) -> str:
    """A setting with its comment beside it."""
    return f"{setting:<{WIDTH}} # {comment}"


def quoted(text: str) -> str:
    """A text as YAML on one line: bare where that reads back as the same text, else in double quotes."""
    if re.fullmatch(r"[A-Za-z0-9_./-]+", text) and yaml.safe_load(f"[{text}]") == [text]:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf")).strip()
