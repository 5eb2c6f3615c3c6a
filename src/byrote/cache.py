"""Where byrote keeps files that it made or that a person fetched for it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """BYROTE_CACHE, or `byrote` in XDG_CACHE_HOME, or ~/.cache/byrote. It need not exist yet."""
    chosen = os.environ.get("BYROTE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "byrote"
