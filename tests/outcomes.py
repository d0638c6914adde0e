"""How a command may end: refused in one line with nothing left, or with a video that plays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import av
import pytest

from vivavoce.errors import InputError, InputWarning

T = TypeVar("T")


def one_line(err: str) -> None:
    """One line of ours, fit for a terminal."""
    assert err.startswith("vivavoce: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert len(err) < 600
    assert err[:-1].isprintable()


def refused(outcome: Any, place: Path, *said: str) -> None:
    """Exit code 2, one line with the words ``said``, no output."""
    assert outcome.code == 2, outcome
    one_line(outcome.err)
    for words in said:
        assert words in outcome.err
    assert outcome.out == ""
    assert list((place / "out").iterdir()) == []


def made(outcome: Any, place: Path, frames: int | None = None) -> int:
    """A video that plays, sound and picture equally long; returns the number of frames."""
    assert outcome.code == 0, outcome
    assert [entry.name for entry in (place / "out").iterdir()] == ["a.mp4"]
    with av.open(str(place / "out" / "a.mp4")) as box:
        shown = sum(1 for _ in box.decode(video=0))
        seconds = [float(stream.duration * stream.time_base) for stream in box.streams]
    assert shown >= 1
    assert seconds == pytest.approx([shown / 25] * 2, abs=0.04)
    assert frames is None or abs(shown - frames) <= 1
    return shown


def unless_refused(use: Callable[[], T], path: Path) -> T | None:
    """What ``use`` gives, or None when it refuses ``path`` by name; anything else it raises is a bug."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        try:
            return use()
        except InputError as error:
            if str(path) not in str(error):
                raise
            return None
