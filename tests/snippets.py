"""What the documentation shows, run as a reader would: the blocks of a page, in their order, in one folder.

A comment in the Markdown says what is different in the tests, so that whoever edits the page sees it:

- `<!-- test: given tickets.csv -->`: files, or names in Python, that the page takes for granted; `GIVEN` makes them
- `<!-- test: with --set epochs=1 -->`: arguments added to every run, audit and dry run of the next block
- `<!-- test: exits 3 -->`: the exit code of the last command of the next block
- `<!-- test: skip: a reason -->`: the next block is not run
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from byrote.cli import main

ROOT = Path(__file__).parents[1]
RUN, SHOWN = ("sh", "python", "yaml", "toml", "json"), ("text", "output")
BASE = {
    "name": "fragment", "model": "builtin:tiny", "methods": ["lora"], "learning_rate": 0.005,
    "data": {"source": "builtin:aws-docs", "members": 20, "nonmembers": 20, "validation": 20, "test": 20},
}  # fmt: skip
"""The study that a part of one is laid over."""
WITH = ("run", "audit", "doctor")
BLOCK = re.compile(r"^(?P<fence>```+)(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S)
NOTE = re.compile(r"^<!-- test: (?P<what>given|with|exits|skip:) ?(?P<rest>.*?) *-->", re.M | re.S)


class Wrong(AssertionError):
    """A snippet does not do what the page says; the message says where."""


@dataclass(frozen=True)
class Snippet:
    """One block of a page."""

    where: str
    language: str
    text: str
    title: str = ""
    """The file that it is, for blocks such as ```python title="surprise.py"."""
    given: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    exits: int = 0
    skip: str = ""


def snippets(text: str, name: str) -> list[Snippet]:
    """The blocks of a page that are to be run or skipped. Raises Wrong."""
    found, end = [], 0
    for block in BLOCK.finditer(text):
        where = f"{name}:{text[: block.start()].count(chr(10)) + 1}"
        said = {note["what"]: note["rest"] for note in NOTE.finditer(text, end, block.start())}
        end = block.end()
        language = block["language"]
        if language not in RUN:
            if language not in SHOWN or said:
                raise Wrong(f"{where}: ```{language} is none of {', '.join(RUN)}, nor of {', '.join(SHOWN)}")
            continue
        if "skip:" in said and len(said["skip:"]) < 10:
            raise Wrong(f"{where}: skipped without a reason")
        title = re.search(r'title="([^"]+)"', block["rest"])
        found.append(
            Snippet(
                where, language, block["text"], title[1] if title else "", tuple(shlex.split(said.get("given", ""))),
                tuple(shlex.split(said.get("with", ""))), int(said.get("exits", "0")), said.get("skip:", ""),
            )
        )  # fmt: skip
    if len(re.findall(r"^<!-- *tests?\b", text, re.M)) != len(NOTE.findall(text)):
        raise Wrong(f"{name}: a comment '<!-- test:' that nothing understands")
    return found


@dataclass
class Page:
    """A page as it is being read: a folder, the names of its Python, and what it installed."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    installed: Path | None = None

    def run(self, snippet: Snippet) -> None:
        """Do what one block says. Raises Wrong, or what the block raises."""
        for name in snippet.given:
            GIVEN[name](self)
        if snippet.skip:
            return
        if snippet.title:
            place = self.folder / snippet.title
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(snippet.text, encoding="utf-8")
        if snippet.language == "sh":
            lines = snippet.text.replace("\\\n", " ").splitlines()
            commands = [words for line in lines if (words := shlex.split(line, comments=True))]
            for at, words in enumerate(commands):
                self.command(words, snippet, snippet.exits if at == len(commands) - 1 else 0)
        elif snippet.language == "yaml":
            self.study(snippet)
        elif snippet.language == "python" and not snippet.title:
            exec(compile(snippet.text, snippet.where, "exec"), self.names)
        elif snippet.language == "json":
            json.loads(snippet.text)

    def command(self, words: Sequence[str], snippet: Snippet, wanted: int) -> None:
        """One line of a shell block."""
        program, *arguments = words
        if program.removeprefix(".venv/bin/") == "byrote":
            more = snippet.added if arguments[0] in WITH and "--help" not in arguments else ()
            code = self.byrote(*arguments, *more)
        elif program == "make":
            code = run(["make", "--dry-run", *arguments], ROOT)
        elif program.removeprefix(".venv/bin/") == "python":
            code = self.python(arguments, snippet.where)
        elif program == "pip" and arguments == ["install", "--editable", "."]:
            code = self.install()
        else:
            raise Wrong(f"{snippet.where}: nothing here knows how to check {program!r}: skip the block, with a reason")
        if code != wanted:
            raise Wrong(f"{snippet.where}: {' '.join(words)} ends with {code}, not {wanted}")

    def byrote(self, *words: str) -> int:
        """The command line: in this process, or in one that has what the page installed."""
        if self.installed is None:
            return main(list(words))
        code = "import sys; from byrote.cli import main; sys.exit(main())"
        return run([sys.executable, "-c", code, *words], self.folder, self.installed)

    def python(self, arguments: Sequence[str], where: str) -> int:
        """A file of the page is run; of one of the repository it is checked that it is there."""
        script = arguments[0]
        if (self.folder / script).is_file():
            return run([sys.executable, *arguments], self.folder, self.installed)
        if not (ROOT / script).is_file():
            raise Wrong(f"{where}: there is no {script}")
        return 0

    def install(self) -> int:
        """The page's own package, in a folder that only later commands of the page look into."""
        self.installed = self.folder / "installed"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
        ]
        return run([*pip, "--no-build-isolation", "--target", str(self.installed), str(self.folder)], self.folder)

    def study(self, snippet: Snippet) -> None:
        """A study is read and expanded as `--dry-run` does; a part of one as part of a small one."""
        value = yaml.safe_load(snippet.text)
        whole = isinstance(value, dict) and {"name", "model", "data"} <= set(value)
        name = snippet.title or f"{value['name'] if whole else 'fragment'}.yaml"
        text = snippet.text if whole else json.dumps(laid_over(BASE, value))
        (self.folder / name).write_text(text, encoding="utf-8")
        if self.byrote("run", name, "--dry-run", *snippet.added) != 0:
            raise Wrong(f"{snippet.where}: the study cannot be run as it stands")


def laid_over(base: dict[str, Any], part: Any) -> dict[str, Any]:
    """A part of a study in a whole one."""
    if not isinstance(part, dict):
        raise Wrong("a part of a study is a mapping")
    merged = base | part
    if "data" in part:
        merged["data"] = base["data"] | part["data"]
    if "utility" in part or "objective" in part:  # a study of something else has defaults of its own
        merged.pop("learning_rate", None)
    return merged


def run(command: Sequence[str], folder: Path, path: Path | None = None) -> int:
    """A program's exit code; what it said is shown where the test fails."""
    paths = [str(one) for one in (path, ROOT / "src") if one is not None]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done.returncode


BEGINS = ("ac", "bal", "cor", "del", "fin", "gor", "lam", "mer", "nor", "pel", "ras", "tan")
WORDS = [f"{first}{last}" for first in BEGINS for last in ("al", "ent", "ic", "or", "um", "ane", "ist", "ove")]


def texts(count: int, seed: int) -> list[str]:
    """Made-up tickets of 20 to 30 words, no two alike."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, int(draw.integers(20, 30)))).capitalize() + "." for _ in range(count)]


def _tickets(page: Page) -> None:
    rows = [f"{at},{'sales' if at % 2 else 'support'},{text}" for at, text in enumerate(texts(320, 1))]
    (page.folder / "tickets.csv").write_text("\n".join(["number,team,ticket", *rows]) + "\n")


def _study(page: Page) -> None:
    """A study of few of the tickets."""
    _tickets(page)
    data = {"source": "tickets.csv", "text": "ticket", "members": 20, "nonmembers": 20, "validation": 20, "test": 20}
    study = BASE | {
        "name": "tickets",
        "data": data,
        "positive_control": False,
        "max_length": 32,
        "attacks": ["loss", "reference"],
    }
    (page.folder / "tickets.yaml").write_text(json.dumps(study))


def _jsonl(name: str, seed: int) -> Callable[[Page], None]:
    def make(page: Page) -> None:
        lines = [json.dumps({"text": text}) for text in texts(40, seed)]
        (page.folder / name).write_text("\n".join(lines) + "\n")

    return make


def _model(page: Page) -> None:
    """A LoRA of the tiny model, as somebody's own training would leave it: `model` and `tokenizer`."""
    import torch
    from peft import LoraConfig

    from byrote.methods.base import attach_peft
    from byrote.models.load import load, resolve

    loaded = load(resolve("builtin:tiny"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
        tuned: Any = attach_peft(loaded.model, config).model
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.02)
    page.names |= {"model": tuned, "tokenizer": loaded.tokenizer}


def _adapter(page: Page) -> None:
    _model(page)
    page.names.pop("model").save_pretrained(page.folder / "my-adapter")


def _demo(page: Page) -> None:
    """The demo's results, of few records and one method."""
    from byrote.runner.study import run as run_study

    few = [f"data.{part}=20" for part in ("members", "nonmembers", "validation", "test")]
    one = "methods=[{name: lora, learning_rate: 0.005}]"
    run_study("demo", page.folder / "byrote-results/demo", settings=[*few, one, "epochs=1", "positive_control=false"])


GIVEN: dict[str, Callable[[Page], None]] = {
    "tickets.csv": _tickets,
    "tickets.yaml": _study,
    "members.jsonl": _jsonl("members.jsonl", 2),
    "nonmembers.jsonl": _jsonl("nonmembers.jsonl", 3),
    "model": _model,
    "my-adapter": _adapter,
    "byrote-results/demo": _demo,
}
