"""A second Ctrl-C, while the first is being told, takes nothing from what is told or from the exit code."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from byrote.cli import entry


def interrupted(*_: Any, **__: Any) -> int:
    raise KeyboardInterrupt


def test_before_the_first_was_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    complain, calls = entry._complain, list[str]()

    def told(message: str) -> None:
        calls.append(message)
        if len(calls) == 1:
            raise KeyboardInterrupt
        complain(message)

    monkeypatch.setattr(entry, "app", interrupted)
    monkeypatch.setattr(entry, "_complain", told)
    assert entry.main(["list"]) == 130
    assert capsys.readouterr().err.splitlines() == [f"byrote: {entry.KEPT}"]


def test_after_the_first_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[tuple[Any, Any]] = []
    monkeypatch.setattr(entry.signal, "signal", lambda *given: ignored.append(given))
    monkeypatch.setattr(entry, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry._main()
    assert ended.value.code == 130 and ignored == [(signal.SIGINT, signal.SIG_IGN)]


def test_a_command_that_ends_by_itself_leaves_ctrl_c_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[tuple[Any, Any]] = []
    monkeypatch.setattr(entry.signal, "signal", lambda *given: ignored.append(given))
    monkeypatch.setattr(entry, "main", lambda: 3)
    with pytest.raises(SystemExit) as ended:
        entry._main()
    assert ended.value.code == 3 and not ignored
