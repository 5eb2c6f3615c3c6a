"""Doing what a study asks: load, split, train, score, attack, store; then the results.

The room is called runner and not run, because `byrote.run` is the public function.
"""

from byrote.runner.auditing import audit
from byrote.runner.study import run

__all__ = ["audit", "run"]
