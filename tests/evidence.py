"""Evidence for any attack, from a toy model that knows its members `gain` nats a token better than other texts."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from byrote.attacks.base import Attack, Background, Evidence, Shadow
from byrote.types import Generation, Query, Record, TokenStats

WORDS = ["the", "bucket", "policy", "denies", "every", "request", "without", "a", "valid", "signature", "or", "role"]
OUTSIDERS = tuple(Record(f"out-{at}", " ".join(np.random.default_rng(at).choice(WORDS, 20))) for at in range(40))
INSIDERS = tuple(Record(f"in-{at}", " ".join(np.random.default_rng(at + 99).choice(WORDS, 20))) for at in range(10))


def stats(log_prob: object, mean: object = -4.0, std: object = 1.5, rank: object = 3) -> TokenStats:
    values = np.asarray(log_prob, dtype=np.float32)
    fill = [np.broadcast_to(np.asarray(part), values.shape) for part in (mean, std, rank)]
    return TokenStats(values, fill[0].astype(np.float32), fill[1].astype(np.float32), fill[2].astype(np.int32))


def generator(*parts: object) -> np.random.Generator:
    """Chance that turns on nothing but what is named."""
    return np.random.default_rng(int(hashlib.sha256(repr(parts).encode()).hexdigest()[:16], 16))


def tokens_of(name: str, tokens: int | None) -> int:
    return int(generator(name, "length").integers(20, 60)) if tokens is None else tokens


def said(model: str, record: Record, length: int, gain: float) -> TokenStats:
    """What a model says of a text of so many tokens: what it shares with other models, its own noise, and the gain."""
    shared, own = generator(record.id, record.text), generator(model, record.id, record.text)
    mean, std = shared.normal(-4, 0.5, length), shared.uniform(1.0, 2.0, length)
    log_prob = np.minimum(mean + std * shared.normal(size=length), -0.01)
    learned = gain * 2 * log_prob / (log_prob - 4)  # what was unlikely gains most
    tuned = np.minimum(log_prob + learned + own.normal(0, 0.1, length), -0.001)
    return stats(tuned, mean, std, (tuned < mean).astype(int) * 3)


def written(record: Record, at: int, gain: float) -> Generation:
    """What the tuned model writes: with the gain, half of the record's words among others."""
    chance, words = generator("written", record.id, at), record.text.split()
    known = chance.random(len(words)) < min(gain, 1.0) / 2
    said = [word if knows else str(chance.choice(WORDS)) for word, knows in zip(words, known, strict=True)]
    return Generation(" ".join(said[len(said) // 2 :]), (), True)


def classified(scores: np.ndarray, label: int) -> TokenStats:
    logs = (scores - np.logaddexp.reduce(scores)).astype(np.float32)
    mean = (np.exp(logs) * logs).sum()
    return replace(stats(logs[label : label + 1], mean, 1.0, (logs > logs[label]).sum()), classes=logs)


def labelled(model: str, record: Record, gain: float) -> TokenStats:
    """What a model says of a record's label, one of four."""
    shared = generator(record.id, record.text)
    scores, label = shared.normal(size=4), int(shared.integers(4))
    noise = generator(model, record.id).normal(0, 0.1, 4)
    return classified(scores + noise + 2 * gain * (np.arange(4) == label), label)


def one(
    name: str,
    gain: float,
    tokens: int | None = None,
    attack: Attack | None = None,
    *,
    reads: str = "tokens",
    record: Record | None = None,
    outsider: bool = False,
) -> Evidence:
    """The evidence on one record, whose tokens the tuned model predicts `gain` nats better than another would.

    A text that is not the record's own, or that stands behind others, has none of the gain.
    """
    length = tokens_of(name, tokens)
    record = record or Record(name, " ".join(generator(name, "text").choice(WORDS, max(length, 1))).capitalize())
    neighbours = tuple(record.text.replace(word, "other") for word in WORDS[:5])
    background = Background(OUTSIDERS, INSIDERS, neighbours={record.id: neighbours})
    trainings = 0 if attack is None else attack.trainings
    queries = [] if attack is None else attack.queries(record, background)

    def ask(model: str, of: float) -> TokenStats:
        return labelled(model, record, of) if reads == "labels" else said(model, record, length, of)

    def answer(model: str, query: Query) -> TokenStats:
        own = query.record.text == record.text and not query.context
        return said(
            model, query.record, tokens_of(query.record.text, tokens), gain if own and model == "target" else 0.0
        )

    return Evidence(
        record=record,
        target=ask("target", gain),
        base=ask("base", 0.0),
        tokens=generator(name, "tokens").integers(0, 50, length).astype(np.int32),
        background=background,
        answers={query.key: answer("target", query) for query in queries},
        base_answers={query.key: answer("base", query) for query in queries},
        shadows=tuple(
            Shadow(is_in, ask(f"shadow {at}", is_in * max(gain, 1.0)))
            for at, is_in in enumerate((at % 2 == 0 and not outsider) for at in range(trainings))
        ),
        continuations=tuple(
            written(record, at, gain) for at in range(0 if attack is None else len(attack.openings(record, background)))
        ),
        gradient_norm=float(np.exp(-gain + 0.1 * generator(name, "gradient").normal())),
    )


def many(seed: int, count: int, gain: float, attack: Attack | None = None) -> list[Evidence]:
    reads = "tokens" if attack is None or attack.reads != "labels" else "labels"
    return [one(f"{seed}-{index}", gain, attack=attack, reads=reads) for index in range(count)]


def population(attack: Attack) -> list[Evidence]:
    """The evidence on the outsiders, and on others in question with it, where the attack reads either."""
    reads = "labels" if attack.reads == "labels" else "tokens"
    found = []
    for need, records in (("population", OUTSIDERS), ("peers", INSIDERS)):
        if need in attack.needs:
            out = need == "population"
            found += [one(r.id, 0.0, attack=attack, reads=reads, record=r, outsider=out) for r in records]
    return found
