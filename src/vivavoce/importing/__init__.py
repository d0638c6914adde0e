"""Published checkpoints -> our weight folders: read without running anything, mapped key by key, or refused."""

from __future__ import annotations

from pathlib import Path

KINDS = ("difftalk", "lia", "liveportrait", "moda")


def run(kind: str, source: Path, out: Path) -> list[Path]:
    """Import what ``source`` has of ``kind`` into the folder ``out``; returns the weight files written.

    A MoDA folder may also hold LivePortrait's networks and the speech model; they come along.

    Raises:
        InputError: nothing of that kind is there, or it does not fit, saying what is wrong. A file is written whole or
            not at all.
    """
    from vivavoce.importing import difftalk, lia, liveportrait, moda, speech
    from vivavoce.importing.checkpoints import find

    if kind == "difftalk":
        return [difftalk.convert(source, out)]
    if kind == "lia":
        return [lia.convert(source, out)]
    if kind == "liveportrait":
        return [liveportrait.import_liveportrait(source, out)]
    written = [moda.convert(source, out)]
    if source.is_dir():
        if find(source, [f"warping_module{suffix}" for suffix in (".safetensors", ".pth")]):
            written.append(liveportrait.import_liveportrait(source, out))
        written += speech.convert(source, out)
    return written
