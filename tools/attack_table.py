"""Writes docs/attacks.md from the registry.

python tools/attack_table.py
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import get_args

from byrote.attacks import base
from byrote.attacks.base import Attack, Need
from byrote.registry import discover
from byrote.study.model import ATTACKS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/attacks.md"

INTRODUCTION = """# Attacks

`byrote list attacks` prints this table, `tools/attack_table.py` writes this page: do not edit it by hand.

Every attack gives each record one score, and **a higher score means "more likely trained on"**. An attack says what it
needs and which further texts it wants scored; byrote asks each distinct text once per model, so that attacks share
passes. What takes passes of its own is made after the last epoch alone. Whoever is used to calibrate an attack, or is
shown to the model by it, is never scored by it. A record that an attack cannot score has a reason beside it.

A study names attacks, with settings where the defaults do not do: `attacks: [loss, {name: min-k, k: 0.1}]`. Where it
names none it takes """


def attacks() -> dict[str, Attack]:
    """byrote's own with their defaults, not those of other packages."""
    known = discover("attack").items()
    return {name: kind() for name, kind in known if issubclass(kind, Attack) and kind.__module__.startswith("byrote.")}


def page() -> str:
    """The whole page."""
    found = attacks()
    parts = [INTRODUCTION + " or, for labels, ".join(_list(names) for names in ATTACKS.values()) + ".\n"]
    parts.append("\n".join(["## What attacks need", "", *_needs()]) + "\n")
    for kind in sorted({attack.kind for attack in found.values()}, key=lambda kind: (kind != "membership", kind)):
        of_kind = {name: attack for name, attack in found.items() if attack.kind == kind}
        parts.append(f"## {kind.capitalize()}\n\n{_table(of_kind)}\n")
        parts += [_section(name, attack) for name, attack in of_kind.items()]
    return "\n".join(parts)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _needs() -> list[str]:
    """What each need is, as the code says it."""
    said = re.findall(r"^- (\w+): (.+)$", inspect.getsource(base), re.MULTILINE)
    known = dict(said)
    return [f"- **{need}**: {known[need]}" for need in get_args(Need)]


def _table(found: dict[str, Attack]) -> str:
    rows = [
        "| attack | reads | access | needs | cost of a record | paper |",
        "|---|---|---|---|---|---|",
    ]
    for name, attack in found.items():
        needs = ", ".join(sorted(attack.needs)) or "-"
        cells = (f"[{name}](#{anchor(name)})", attack.reads, attack.access, needs, attack.cost, linked(attack.paper()))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _section(name: str, attack: Attack) -> str:
    text = linked(inspect.cleandoc(attack.__doc__ or "").strip())
    own = anchor(name)
    lines = [*([] if own == name else [f'<a id="{own}"></a>', ""]), f"### {name}", "", text, ""]
    if type(attack).model_fields:
        lines += ["Settings:", ""]
        for field, info in type(attack).model_fields.items():
            value = json.dumps(attack.model_dump(mode="json")[field])
            lines.append(f"- `{field}: {value}`" + (f", {info.description}" if info.description else ""))
        lines.append("")
    return "\n".join(lines)


def linked(text: str) -> str:
    """arXiv ids as links."""
    return re.sub(r"arXiv\s+(\d{4}\.\d{4,5})", r"arXiv [\1](https://arxiv.org/abs/\1)", text)


def anchor(name: str) -> str:
    """The name in letters, digits and hyphens, which every renderer of Markdown links alike."""
    return re.sub(r"[^a-z0-9-]", "", name.lower().replace("+", "-plus"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
