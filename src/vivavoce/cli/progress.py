"""How far it is: a bar with speed and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vivavoce.errors import InputWarning

EVERY = 10.0  # s between lines when there is no terminal


def say(line: str) -> None:
    """One line for the user that is not a result."""
    sys.stderr.write(f"vivavoce: {one_line(line)}\n")


def one_line(text: str) -> str:
    """``text`` fit for a terminal whatever file names are in it."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


@contextmanager
def warnings_told(told: list[str], *, quiet: bool) -> Iterator[None]:
    """Say warnings about the input in one line each (``quiet``: only collect them); other libraries' are dropped."""

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        if issubclass(category, InputWarning) and str(message) not in told:
            told.append(str(message))
            if not quiet:
                say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        yield


@contextmanager
def progress(what: str, total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A function to tell the number of frames done; ``total`` is None when nobody knows it."""
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        with _bar(what, total) as tell:
            yield tell
    else:
        yield _lines(total)


def _nothing(done: int) -> None:
    del done


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total, rate="")
        speed = _speed()
        yield lambda done: bars.update(task, completed=done, rate=f"{speed(done):.1f} fps")


def _lines(total: int | None) -> Callable[[int], None]:
    speed, last = _speed(), time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        rate = speed(done)
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            share = f" of {total}" if total and total >= done else ""
            left = f", {math.ceil((total - done) / rate)} s left" if share and total and rate else ""
            say(f"{done} frames{share}{left} ({rate:.1f} fps)")

    return tell


def _speed() -> Callable[[int], float]:
    """Frames a second since the first call: what comes before the first frame says nothing about the others."""
    first: list[tuple[float, int]] = []

    def speed(done: int) -> float:
        if not first:
            first.append((time.monotonic(), done))
        began, before = first[0]
        return (done - before) / max(time.monotonic() - began, 1e-9)

    return speed
