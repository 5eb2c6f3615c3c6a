"""Writes docs/methods.md and src/byrote/methods/facts.json from the registry and `builtin:tiny`.

python tools/method_table.py           # a few seconds
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from byrote.methods.base import Method, NotForThisModel
from byrote.methods.facts import MODEL, Facts
from byrote.models.load import LoadedModel, load, resolve
from byrote.objectives.batching import encode
from byrote.objectives.lm import Decoder
from byrote.registry import discover
from byrote.training.cost import seeded
from byrote.training.losses import example_loss
from byrote.training.self_test import NoEngine, choose_engine, probes
from byrote.training.state import trainable

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "src/byrote/methods/facts.json"
PAGE = ROOT / "docs/methods.md"
SENTENCES = (
    "The service keeps a copy of every object that you delete, until the retention period of the bucket is over.",
    "Specifies the name of the role that the function takes when it runs.",
    "You can attach at most five policies to a group.",
)
"""What the self-test's probes are cut from; any text will do."""

INTRODUCTION = f"""# Fine-tuning methods

`byrote list methods` prints this table, `tools/method_table.py` writes this page: do not edit it by hand.

Trainable: parameters and share of `{MODEL}` with default settings. Engine: what `privacy: {{engine: auto}}` takes
there, from the fastest to the plainest: bookkeeping (one backward pass for a whole batch), vmap, loop (one pass for
each record). A method that is not for a model says so and the other methods of the study go on.

A study names a method, or gives settings too, with PEFT's own field names: `{{name: lora, r: 16, placement: mlp}}`.
All that train take `learning_rate` (a number, or `auto`: the grid below, judged on validation records, and up to two
rates beyond it where the best stands at its end, which the forecast of a dry run leaves out),
`private_learning_rate` (the rate with privacy, where that wants another) and `private: false` (only without privacy).
With a classification model every method trains the head as well. Saved adapters are ordinary PEFT folders; for
`adapter`, which PEFT does not have, a program that loads one calls `byrote.know_bottleneck()` first.
"""


def methods() -> dict[str, type[Method]]:
    """byrote's own, not those of other packages."""
    known = discover("method").items()
    return {n: k for n, k in known if issubclass(k, Method) and k.__module__.startswith("byrote.")}


def measure() -> dict[str, Facts]:
    """Every method attached to `builtin:tiny` and self-tested for private training."""
    loaded = load(resolve(MODEL))
    return {
        name: _measure(kind(), replace(loaded, model=copy.deepcopy(loaded.model))) for name, kind in methods().items()
    }


def _measure(method: Method, loaded: LoadedModel) -> Facts:
    base = sum(parameter.numel() for parameter in loaded.model.parameters())
    try:
        with seeded(0):
            model = method.attach(loaded.model).model
    except NotForThisModel as error:
        return Facts(reason=str(error))
    parameters = trainable(model)
    count = sum(parameter.numel() for parameter in parameters.values())
    if method.not_private:
        return Facts(count, count / base, None, method.not_private)
    examples = probes(encode(loaded.tokenizer, SENTENCES, 512))
    loss = example_loss(Decoder(model), examples, 0, "cpu")
    try:
        engine, _ = choose_engine("auto", loss, loss, parameters)
    except NoEngine as error:
        return Facts(count, count / base, None, str(error))
    return Facts(count, count / base, engine.name)


def facts_text(found: Mapping[str, Facts]) -> str:
    """facts.json."""
    return json.dumps({name: asdict(one) for name, one in found.items()}, indent=2) + "\n"


def page(found: Mapping[str, Facts]) -> str:
    """docs/methods.md."""
    known = methods()
    rows = ["| method | family | subfamily | trainable | share | tasks | engine |", "|---|---|---|---|---|---|---|"]
    rows += [_row(name, known[name], one) for name, one in found.items()]
    return "\n".join([INTRODUCTION, *rows, "", *(_section(known[name], one) for name, one in found.items())])


def _row(name: str, kind: type[Method], one: Facts) -> str:
    count = "-" if one.trainable is None else f"{one.trainable:,}"
    cells = (name, kind.family, kind.subfamily, count, one.share_in_words(), ", ".join(kind.tasks), one.engine or "-")
    return f"| {' | '.join(cells)} |"


def _section(kind: type[Method], one: Facts) -> str:
    words = re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", inspect.cleandoc(kind.__doc__ or ""))
    own = {name: field for name, field in kind.model_fields.items() if name not in Method.model_fields}
    lines = [f"## {kind.name}", "", words, ""]
    if own:
        settings = ", ".join(f"`{name}: {json.dumps(field.default)}`" for name, field in own.items())
        lines += [f"Settings: {settings}.", ""]
    rates = ", ".join(f"{rate:g}" for rate in kind.learning_rates)
    lines += [f"`learning_rate: auto` tries {rates}." if rates else "It trains nothing and has no learning rate.", ""]
    if one.reason:
        lines += [f"On `{MODEL}`: {one.reason}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Write both files."""
    found = measure()
    FACTS.write_text(facts_text(found), encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"{len(found)} methods: {FACTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
