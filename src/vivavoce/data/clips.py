"""What recordings there are: a folder with a ``manifest.csv`` of path, kind, split, speaker and notes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vivavoce.emotion.labels import EMOTIONS, NONE
from vivavoce.errors import InputError

COLUMNS = ("path", "kind", "split", "speaker", "notes")
_LAG = re.compile(r"A/V lag measured ([+-]?\d+) ms")
# How names of recordings call the emotions whose own names they do not use.
_CALLED = {"angry": "anger", "disgusted": "disgust", "happy": "happiness", "sad": "sadness", "surprised": "surprise"}
# Clips of the MEAD set whose lag could not be measured: their siblings' pictures lead the sound by this much.
MEAD_LAG = -85


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of a data folder."""

    path: Path
    kind: str  # "talking": with its own sound; "driving": a moving face, no usable sound; "portrait"; "speech"
    split: str  # "train", "heldout" or "test"
    speaker: str  # recordings of one person share it
    emotion: str  # one of :data:`vivavoce.emotion.labels.EMOTIONS`, or "none"
    lag: int  # milliseconds by which the picture is later than the sound; 0 where it is not known

    @property
    def name(self) -> str:
        """Unique within the folder."""
        return self.path.stem


def recordings(data: Path, *, kinds: tuple[str, ...] = (), split: str | None = None) -> list[Recording]:
    """Recordings of ``data`` in the manifest's order, of these ``kinds`` (default all) and this ``split`` (all).

    Raises :class:`InputError` when the manifest is missing or lacks a column, or when nothing is left.
    """
    file = data / "manifest.csv"
    if not file.is_file():
        raise InputError(f"{data} is not a data folder: it has no manifest.csv")
    with file.open(newline="", encoding="utf-8") as lines:
        table = csv.DictReader(lines)
        if missing := set(COLUMNS) - set(table.fieldnames or ()):
            raise InputError(f"{file} lacks the columns {sorted(missing)}; it needs {', '.join(COLUMNS)}")
        found = [r for r in _read(data, table) if (not kinds or r.kind in kinds) and split in (None, r.split)]
    if not found:
        raise InputError(f"{file} lists no recordings of kind {' or '.join(kinds) or 'any'} in split {split!r}")
    return found


def _read(data: Path, table: csv.DictReader[str]) -> Iterator[Recording]:
    for row in table:
        path = data / row["path"]
        measured = _LAG.search(row["notes"])
        unknown = MEAD_LAG if row["kind"] == "talking" and path.stem.startswith("mead") else 0
        yield Recording(
            path=path,
            kind=row["kind"],
            split=row["split"],
            speaker=row["speaker"] or path.stem,
            emotion=_emotion(path.stem),
            lag=int(measured[1]) if measured else unknown,
        )


def _emotion(name: str) -> str:
    words = [_CALLED.get(word, word) for word in re.findall(r"[a-z]+", name.lower())]
    return next((word for word in words if word in EMOTIONS), NONE)
