"""Writes docs/api.md from what `import byrote` offers.

python tools/api_page.py
"""

from __future__ import annotations

import inspect
from functools import cached_property
from pathlib import Path
from typing import Any

import byrote

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/api.md"

INTRODUCTION = """# Python

`tools/api_page.py` writes this page: do not edit it by hand.

What `import byrote` offers. Everything else may change between versions, but for what a component of your own is
made of ([add your own](extend.md)). Importing byrote is instant; torch is loaded when something is run.
"""

EXAMPLES = {
    "run": """<!-- test: given tickets.yaml -->
```python
import byrote

results = byrote.run("tickets.yaml", settings=["epochs=2", "seeds=[0, 1]"])
print(results.table().query("kind == 'membership' and metric == 'auc'"))
print(results.warnings)
```""",
    "audit": """<!-- test: given model members.jsonl nonmembers.jsonl -->
```python
import byrote

found = byrote.audit(model=model, tokenizer=tokenizer, members="members.jsonl", nonmembers="nonmembers.jsonl")
print(found.table().query("metric == 'auc'")[["name", "value", "low", "high", "null_value"]])
```""",
    "Study": """```python
from byrote import Study

study = Study(
    name="mine",
    model="builtin:tiny",
    data={"source": "builtin:aws-docs", "members": 200},
    methods=["full", {"name": "lora", "r": 16}],
)
print([method.name for method, privacy, seed in study.cells()])
```""",
    "Results": """<!-- test: given byrote-results/demo -->
```python
import byrote

results = byrote.Results.read("byrote-results/demo")
for row in results.rows:
    if row.metric == "auc" and row.reason == "":
        print(row.method, row.name, row.epoch, row.value, row.low, row.high, row.null_value)
```""",
    "StudyError": """```python
import byrote

try:
    byrote.run("demo", settings=["epocs=2"])
except byrote.StudyError as error:
    print(error)  # ... unknown key 'epocs'. Did you mean 'epochs'?
```""",
    "know_bottleneck": """```python
import byrote

byrote.know_bottleneck()
from peft import PeftModel  # PeftModel.from_pretrained now loads adapters that the method `adapter` left
```""",
}


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(_section(name) for name in byrote.__all__ if name != "__version__")])


def _section(name: str) -> str:
    thing = getattr(byrote, name)
    parts = [f"## {name}", ""]
    if inspect.isfunction(thing):
        parts += ["```text", signature(name, thing), "```", ""]
    elif issubclass(thing, Exception):
        parts += [f"A kind of `{thing.__mro__[1].__name__}`.", ""]
    parts += [inspect.cleandoc(thing.__doc__ or ""), ""]
    if name == "Study":
        parts += ["Its fields are the keys of a study file: [the study file](study-file.md).", ""]
    elif inspect.isclass(thing):
        parts += [*members(thing), ""]
    return "\n".join([*parts, *([EXAMPLES[name], ""] if name in EXAMPLES else [])])


def signature(name: str, thing: Any) -> str:
    """A function's parameters, one a line."""
    lines, keywords = [], False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            lines, keywords = [*lines, "    *,"], True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}: {parameter.annotation}{default},")
    return "\n".join([f"byrote.{name}(", *lines, f") -> {inspect.signature(thing).return_annotation}"])


def members(thing: type) -> list[str]:
    """What a class offers, each with the first sentence of its docstring."""
    found = []
    for name, member in vars(thing).items():
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        shown = isinstance(inner, property | cached_property) or inspect.isfunction(inner)
        if name.startswith("_") or not shown or not inner.__doc__:
            continue
        called = (
            f"{name}({', '.join(list(inspect.signature(inner).parameters)[1:])})" if inspect.isfunction(inner) else name
        )
        found.append(f"- `{called}`: {said(inner.__doc__)}")
    return found


def said(docstring: str) -> str:
    """The first paragraph in one line; `<NA>` would be taken for HTML."""
    return " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split()).replace("<NA>", "`<NA>`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
