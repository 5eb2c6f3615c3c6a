"""A synthetic results folder, as a run of a study leaves it: for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from byrote.report.figures import pictures
from byrote.report.privacy import privacy_of
from byrote.report.results import Results
from byrote.report.rows import Row
from byrote.report.summary import Summary
from byrote.store import Cell, Manifest, RunFolder, Trial
from byrote.study.privacy import EXPONENT
from byrote.types import Ledger
from gaussian_privacy import delta_at, epsilon_at, mu_for

ATTACKS = ("loss", "reference", "zlib", "min-k", "min-k++")
BASE = "b" * 16
SPLIT_COLUMNS = ("seed", "record_id", "split", "group", "text_key", "slice", "score_id", "copies")
ENVIRONMENT = {
    "versions": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    "python": "3.11.2",
    "platform": "Linux-6.1-x86_64",
    "device": "cpu",
    "commit": "0123456789abcdef",
    "dirty": False,
}

# How far training lowers a member's loss, and every text's loss, per epoch in nats: (leak, learned, rate, parameters).
METHODS: dict[str, tuple[str, float, Sequence[float], float, int]] = {
    "full": ("parameter", 0.34, (0.05, 0.04, 0.0, -0.06, -0.11), 3e-4, 1_382_784),
    "head": ("parameter", 0.40, (-0.08, -0.17, -0.25, -0.33, -0.41), 2e-3, 524_288),
    "lora": ("parameter", 0.075, (0.04, 0.04, 0.03, 0.01, -0.01), 5e-3, 32_768),
    "prefix-tuning": ("prompt", 0.012, (0.01, 0.03, 0.04, 0.05, 0.05), 3e-2, 10_240),
    "p-tuning": ("prompt", 0.0, (0.01, 0.02, 0.03, 0.03, 0.03), 1e-2, 54_912),
    "prompt-tuning": ("prompt", 0.0, (0.02, 0.03, 0.04, 0.04, 0.04), 3e-2, 1_280),
}


def build(
    folder: Path,
    *,
    methods: Sequence[str] = tuple(METHODS),
    attacks: Sequence[str] = ATTACKS,
    seeds: Sequence[int] = (0,),
    epochs: int = 4,
    members: int = 200,
    nonmembers: int | None = None,
    test: int = 200,
    failed: Sequence[str] = (),
    name: str = "demo",
    settings: Mapping[str, str] | None = None,
    unscorable: int = 0,
    copies: bool = False,
    shift: float = 0.0,
    ends: Mapping[int, int] | None = None,
    levels: Sequence[str] = ("none",),
) -> Manifest:
    """Write the folder and return its manifest. Losses are normal; every draw comes from the seeds.

    `ends` gives seeds a last epoch of their own. `shift` makes members easier than nonmembers before any
    training: a split with a baseline of its own. `levels` are privacy levels, as the column `privacy` has them.
    """
    sizes = {"member": members, "nonmember": nonmembers or members, "validation": 50, "test": test}
    split_columns: dict[str, list[object]] = {key: [] for key in SPLIT_COLUMNS}
    base_losses: dict[str, float] = {}
    losses: dict[int, dict[str, dict[str, float]]] = {}
    for seed in seeds:
        rng = np.random.default_rng(1000 + seed)
        losses[seed] = {}
        for split, size in sizes.items():
            ids = [f"{split}-{seed}-{at:05d}" for at in rng.permutation(size)]
            losses[seed][split] = dict(
                zip(ids, rng.normal(4.16 - shift * (split == "member"), 0.45, size), strict=True)
            )
            base_losses |= losses[seed][split]
            groups = [f"group-{split}-{seed}-{at // 2}" if copies else record for at, record in enumerate(ids)]
            columns = ([seed] * size, ids, [split] * size, groups, ids, [""] * size, ids, [1] * size)
            for column, values in zip(SPLIT_COLUMNS, columns, strict=True):
                split_columns[column] += values
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(split_columns), folder / "splits.parquet")
    test_ids = [record for seed in seeds for record in losses[seed]["test"]]
    _write_run(
        folder, BASE, attacks, {0: {r: v for r, v in base_losses.items() if "member-" in r}}, None,
        {0: {record: base_losses[record] for record in test_ids}}, {"scoring_seconds": 1.4}, unscorable,
    )  # fmt: skip
    cells = []
    for seed in seeds:
        cells.append(Cell(method="none", family="none", seed=seed, run_id=BASE, base_run_id=BASE))
        for number, (level, method) in enumerate((level, method) for level in levels for method in methods):
            cells.append(_cell(method, number, seed, failed, (settings or {}).get(method, "")))
            if level != "none":
                cells[-1] = cells[-1].model_copy(update={"privacy": level, "delta": members**-EXPONENT})
            if cells[-1].status == "done":
                last = (ends or {}).get(seed, epochs)
                _train(folder, cells[-1], method, losses[seed], base_losses, last, attacks, unscorable)
    manifest = Manifest(
        byrote="0.1.0",
        name=name,
        question="Which fine-tuning methods memorise their training records, and at what utility?",
        model="builtin:tiny",
        model_description="A Llama-architecture model of 1.4 million parameters, trained on the older documentation "
        "only. It is far smaller than models in use: what it shows need not hold for them.",
        data="builtin:aws-docs",
        data_description="6,412 paragraphs of service documentation first published after the older release.",
        data_licence="Apache-2.0",
        study={"name": name, "model": "builtin:tiny", "data": {"source": "builtin:aws-docs", "members": members},
               "methods": list(methods), "attacks": list(attacks), "epochs": epochs, "seeds": list(seeds),
               "batch_size": 16, "warmup_ratio": 0.05},
        runs="runs",
        attacks=[{"name": attack} for attack in attacks],
        utility=[{"name": "perplexity"}],
        cells=cells,
        splits={str(seed): sizes | {"dropped: duplicate": 3, "dropped: near-duplicate": 41} for seed in seeds},
        environment=ENVIRONMENT | {"device": "the machine that wrote the report"},
    )  # fmt: skip
    manifest.write(folder)
    return manifest


def _cell(method: str, number: int, seed: int, failed: Sequence[str], settings: str) -> Cell:
    family, _, _, rate, _ = METHODS[method]
    run_id = f"{seed:02x}{number:02x}" + "0123456789ab"
    cell = Cell(method=method, family=family, settings=settings, seed=seed, run_id=run_id, base_run_id=BASE,
                learning_rate=rate)  # fmt: skip
    if method in failed:
        error = "out of memory at micro-batch 1: choose a smaller model or a shorter max_length"
        return cell.model_copy(update={"status": "failed", "error": error})
    if method == "head":
        cell.notes.append("untied the language-model head from the input embeddings")
    if method == "lora":
        cell.tried.extend(
            Trial(learning_rate=tried, run_id=f"{run_id[:-1]}{at}", validation_loss=loss)
            for at, (tried, loss) in enumerate(((1e-3, 4.151), (5e-3, 4.128), (2e-2, 4.209)))
        )
    return cell


def _train(
    folder: Path,
    cell: Cell,
    method: str,
    split_losses: Mapping[str, Mapping[str, float]],
    base: Mapping[str, float],
    epochs: int,
    attacks: Sequence[str],
    unscorable: int,
) -> None:
    """Lower the losses of one method epoch by epoch: a gain that all texts share, and one of members only."""
    _, leak, learned, _, parameters = METHODS[method]
    private = cell.privacy != "none"
    if private:
        epsilon = float(cell.privacy) if cell.privacy.isdigit() else 3.0
        leak, learned = leak * min(epsilon / 100, 0.3), [0.7 * gain for gain in learned]
    rng = np.random.default_rng([cell.seed, *method.encode(), *(cell.privacy.encode() if private else b"")])
    scored: dict[int, dict[str, float]] = {}
    tested: dict[int, dict[str, float]] = {}
    for epoch in range(1, epochs + 1):
        gain = learned[min(epoch, len(learned)) - 1]
        noise = 0.035 * epoch**0.5
        scored[epoch] = {
            record: loss - gain - (leak * epoch**0.6 if split == "member" else 0.0) + rng.normal(0, noise)
            for split in ("member", "nonmember")
            for record, loss in split_losses[split].items()
        }
        tested[epoch] = {record: loss - gain + rng.normal(0, noise) for record, loss in split_losses["test"].items()}
    cost = {
        "train_seconds": 4.0 + 2.5 * leak * 10 + 1.1 * private,
        "tokens_per_second": 5200.0 - 900 * leak,
        "peak_memory_bytes": 412_000_000 + 8 * parameters,
        "trainable_parameters": parameters,
        "total_parameters": 1_382_784 + (parameters if method not in ("full", "head") else 0),
        "stored_bytes": 4 * parameters,
        "scoring_seconds": 2.6,
    }
    _write_run(folder, cell.run_id, attacks, scored, base, tested, cost, unscorable)
    ledger = ledger_of(cell, len(split_losses["member"]), epochs) if private else None
    RunFolder(folder / "runs" / cell.run_id).write_json("ledger.json", asdict(ledger) if ledger else None)


def ledger_of(cell: Cell, members: int, epochs: int, **changed: object) -> Ledger:
    """The account of a mechanism whose noise is Gaussian as a whole, so that all of its numbers hang together."""
    assert cell.delta is not None
    steps = -(-members // 16) * epochs
    target = float(cell.privacy) if cell.privacy.isdigit() else None
    mu = mu_for(target or 3.0, cell.delta)
    account: dict[str, object] = {
        "epsilon": epsilon_at(mu, cell.delta), "delta": cell.delta, "unit": "record", "units": members,
        "expected_batch_size": 16, "noise_multiplier": round(4 / mu, 4), "clip_norm": 0.1, "clipping": "flat",
        "steps": steps, "planned_steps": steps, "accountant": "prv", "accountant_version": "opacus 1.6.0",
        "engine": "bookkeeping", "target_epsilon": target, "epsilon_rdp": 1.08 * epsilon_at(mu, cell.delta),
        "profile": tuple((float(at), delta_at(mu, float(at))) for at in np.linspace(0, 12, 49)),
        "epochs": tuple(
            (epoch, steps * epoch // epochs, epsilon_at(mu * (epoch / epochs) ** 0.5, cell.delta))
            for epoch in range(1, epochs + 1)
        ),
    }  # fmt: skip
    return Ledger(**(account | changed))  # type: ignore[arg-type]


def _write_run(
    folder: Path,
    run_id: str,
    attacks: Sequence[str],
    scored: Mapping[int, Mapping[str, float]],
    base: Mapping[str, float] | None,
    tested: Mapping[int, Mapping[str, float]],
    cost: Mapping[str, float],
    unscorable: int,
) -> None:
    rows: dict[str, list[object]] = {
        key: [] for key in ("epoch", "attack", "settings", "record_id", "score", "reason")
    }  # fmt: skip
    for epoch, losses in scored.items():
        for attack in attacks:
            if attack == "reference" and base is None:
                continue
            for at, (record, loss) in enumerate(losses.items()):
                absent = at < unscorable
                score = None if absent else _score(attack, record, loss, base)
                for key, value in zip(rows, (epoch, attack, "", record, score, "no target token" if absent else ""),
                                      strict=True):  # fmt: skip
                    rows[key].append(value)
    schema = {"epoch": pa.int32(), "score": pa.float64()}
    run = RunFolder(folder / "runs" / run_id)
    run.write_table(
        "scores.parquet", pa.table({key: pa.array(v, schema.get(key, pa.string())) for key, v in rows.items()})
    )
    values = [(epoch, record, loss) for epoch, losses in tested.items() for record, loss in losses.items()]
    count = len(values)
    utility = pa.table(
        {
            "epoch": pa.array([epoch for epoch, _, _ in values], pa.int32()),
            "utility": ["perplexity"] * count,
            "settings": [""] * count,
            "record_id": [record for _, record, _ in values],
            "statistics": pa.array([(loss * (40.0 + len(r) % 7), 40.0 + len(r) % 7) for _, r, loss in values]),
            "reason": [""] * count,
        }
    )
    run.write_table("utility.parquet", utility)
    means = {epoch: float(np.mean(list(losses.values()))) for epoch, losses in tested.items()}
    run.write_json(
        "training.json",
        {
            "losses": [
                {"step": 10 * epoch + step, "epoch": epoch, "learning_rate": 1e-3,
                 "loss": None if step == 7 else mean - 0.01 * step}
                for epoch, mean in means.items() if epoch for step in range(10)
            ],
            "validation": [{"epoch": epoch, "loss": mean + 0.01} for epoch, mean in means.items()],
        },
    )  # fmt: skip
    run.write_json("cost.json", dict(cost))
    run.write_json("environment.json", ENVIRONMENT)


def _score(attack: str, record: str, loss: float, base: Mapping[str, float] | None) -> float:
    """Scores that hang together as those of one pass would: higher means more likely trained on."""
    noise = np.random.default_rng(abs(hash_of(record + attack))).normal(0, 0.1)
    if attack == "reference":
        assert base is not None
        return base[record] - loss
    scale = {"loss": 1.0, "zlib": 1 / 180, "min-k": 1.9, "min-k++": 0.4}[attack]
    return -scale * (loss + (noise if attack != "loss" else 0.0))


def hash_of(text: str) -> int:
    """A number from a text that is the same in every process."""
    import zlib

    return zlib.crc32(text.encode())


def build_damaged(folder: Path) -> Path:
    """Two seeds, five epochs, a method that failed, and one whose scores were damaged afterwards in seed 1."""
    manifest = build(
        folder, seeds=(0, 1), epochs=5, members=120, test=60, failed=("p-tuning",), settings={"lora": '{"r":16}'},
        attacks=("loss", "reference", "min-k"),
    )  # fmt: skip
    damaged = next(cell.run_id for cell in manifest.cells if cell.method == "head" and cell.seed == 1)
    whole = folder / "runs" / damaged / "scores.parquet"
    whole.write_bytes(whole.read_bytes()[:-200])
    return folder


def pick(results: Results, metric: str, **wanted: object) -> Row:
    """The one row with this metric and these values."""
    found = [
        row for row in results.rows if row.metric == metric and all(getattr(row, k) == v for k, v in wanted.items())
    ]
    assert len(found) == 1, f"{len(found)} rows of {metric} {wanted}"
    return found[0]


def stored(folder: Path, run_id: str, attack: str, epoch: int, seed: int) -> tuple[list[float], list[float]]:
    """Scores of members and nonmembers, read with nothing of the report."""
    split = pyarrow.parquet.read_table(folder / "splits.parquet").to_pylist()
    side = {row["record_id"]: row["split"] for row in split if row["seed"] == seed}
    table = pyarrow.parquet.read_table(folder / "runs" / run_id / "scores.parquet").to_pylist()
    rows = [row for row in table if row["attack"] == attack and row["epoch"] == epoch]
    sides = {part: [row["score"] for row in rows if side.get(row["record_id"]) == part] for part in
             ("member", "nonmember")}  # fmt: skip
    return sides["member"], sides["nonmember"]


def build_private(folder: Path, levels: tuple[str, ...] = ("none", "8"), **options: object) -> Manifest:
    return build(folder, methods=("lora",), attacks=("loss",), epochs=2, members=120, test=20, levels=levels,
                 **options)  # type: ignore[arg-type]  # fmt: skip


def rewrite_ledgers(folder: Path, level: str = "8", **changed: object) -> Ledger:
    """Write the ledger of every run of a level anew, with some of its facts changed."""
    manifest = Manifest.read(folder)
    written = None
    for cell in manifest.cells:
        if cell.privacy == level:
            written = ledger_of(cell, 120, 2, **changed)
            RunFolder(folder / "runs" / cell.run_id).write_json("ledger.json", asdict(written))
    assert written is not None
    return written


def limits_drawn(results: Results) -> list[dict[str, object]]:
    return [
        trace for figure in pictures(Summary(results))["roc"] if figure is not None for trace in figure["data"]
        if trace["name"] == "limit"
    ]  # fmt: skip


def account_of(results: Results, label: str) -> dict[str, tuple[str, ...]]:
    """One line of the table of accounts: by column, the number and its small print."""
    section = privacy_of(Summary(results))
    assert section is not None
    (line,) = [line for line in section.accounts if line.label == label]
    return {head.title: (value.main, *value.small) for head, value in zip(section.columns, line.values, strict=True)}
