"""Values of options: which are accepted, and what is said of the others."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

GUIDED = ("audio", "emotion", "face")  # conditions whose guidance can be scaled


def number(low: float, high: float) -> Callable[[str], float]:
    """Values of a real option between ``low`` and ``high``, both accepted."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Values of an integer option between ``low`` and ``high``, both accepted."""

    def parse(text: str) -> int:
        try:
            value = int(text) if len(text) < 40 else low - 1
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def even(low: int, high: int) -> Callable[[str], int]:
    """Like :func:`whole`, even numbers only (video stores colour for blocks of two by two pixels)."""
    parse_whole = whole(low, high)

    def parse(text: str) -> int:
        value = parse_whole(text)
        if value % 2:
            raise argparse.ArgumentTypeError(f"{text!r} is not an even number")
        return value

    return parse


def pair(low: float, high: float) -> Callable[[str], tuple[float, float]]:
    """Two numbers with a comma between them."""
    parse_number = number(low, high)

    def parse(text: str) -> tuple[float, float]:
        parts = text.split(",")
        if len(parts) != 2:
            raise argparse.ArgumentTypeError(f"{text!r} is not two numbers with a comma between, like 0.2,-0.1")
        return parse_number(parts[0]), parse_number(parts[1])

    return parse


def angles(text: str) -> tuple[float, float, float]:
    """Yaw, pitch and roll with commas between them, in degrees."""
    parse_number = number(-45.0, 45.0)
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three angles with commas between, like 10,-5,0")
    return parse_number(parts[0]), parse_number(parts[1]), parse_number(parts[2])


def scales(text: str) -> dict[str, float]:
    """Guidance by name, like ``audio=1.5,emotion=2``."""
    parse_number, found = number(0.0, 5.0), dict[str, float]()
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in GUIDED:
            raise argparse.ArgumentTypeError(f"{part!r} is not {' or '.join(f'{known}=X' for known in GUIDED)}")
        if name.strip() in found:
            raise argparse.ArgumentTypeError(f"{name.strip()!r} is given twice")
        found[name.strip()] = parse_number(value)
    return found


def drive_parts(text: str) -> tuple[str, ...]:
    """Names with commas between them; see :data:`vivavoce.systems.driven.DRIVABLE` for those that exist."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def face(text: str) -> str:
    """Which of several faces: a word or an index counted from the left."""
    if text in {"largest", "left", "right"} or (text.isascii() and text.isdigit() and len(text) <= 4):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not largest, left, right or an index 0, 1, 2 ... from the left")
