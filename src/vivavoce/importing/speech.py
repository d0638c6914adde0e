"""The speech model that a checkpoint was trained with -> a ``speech`` folder beside its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import publish

FOLDER = "speech"
CONFIG, FEATURES = "config.json", "preprocessor_config.json"


def convert(source: Path, out: Path) -> list[Path]:
    """Copy the speech model found under ``source``, checked and without pickles, to ``out/speech``; none, none written.

    Raises:
        InputError: there are several, or the one there is damaged or of another kind.
    """
    from vivavoce.speech.pretrained import KINDS, described, opened, renamed

    folders = [file.parent for file in sorted(source.rglob(CONFIG)) if described(file).get("model_type") in KINDS]
    if len(folders) > 1:
        places = ", ".join(str(folder.relative_to(source)) for folder in folders[:3])
        raise InputError(f"{source} has {len(folders)} speech models ({places}); import from a folder with one of them")
    if not folders:
        return []
    folder = folders[0]
    kind = described(folder / CONFIG)["model_type"]
    _, found = opened(folder)
    kept = {key: value for key, value in found.tensors.items() if renamed(key, kind) is not None}
    card = f"""# model.safetensors

A speech model of type `{kind}`, imported.

| | |
|---|---|
| Source | `{found.file.name}`, SHA-256 `{found.sha256}` |
| Licence | that of the source: see its own page |
| Changed | nothing but the file format; what only its training needed is left behind |
"""
    into = out / FOLDER
    written = publish(into, "model", kept, card, system=FOLDER, kind=kind)
    for name in (CONFIG, FEATURES):
        if (folder / name).is_file():
            beside = into / f".{name}.partial"
            shutil.copyfile(folder / name, beside)
            json.loads(beside.read_text())
            beside.replace(into / name)
    return [written]
