"""What emotions in words do to generated motion: `python bench/emotion.py PREPARED`.

PREPARED holds clips written by `vivavoce prepare`; those of the training's judges are heard.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce import registry
from vivavoce.data.prepare import Prepared, load
from vivavoce.emotion.text import Table, read
from vivavoce.emotion.words import entries
from vivavoce.face.mesh import BROWS
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes.moda import JUDGES
from vivavoce.system import Features, Portrait, System

RESULT = Path(__file__).parent / "results" / "emotion.md"
EXPRESSION = FACE_MESH.slice("expression")
CLIPS, SECONDS = 2, 2
LEAST = 1e-3  # face widths from which something has moved
# Not in the table that words are learned from. Brows and corners of the mouth: 1 up, -1 down, 0 not told.
PHRASES = {
    "very happy": (0, 1), "slightly annoyed": (-1, -1), "not happy": (1, -1), "not sad": (0, 1), "bitter smile": (0, 1),
    "gloominess": (0, -1), "joyfulness": (0, 1), "extremely surprised": (1, 0), "a bit worried": (1, 0),
    "anoyed": (-1, -1), "deeply sorrowing": (0, -1), "mildly surprised face": (1, 0), "isn't angry, just sad": (0, -1),
    "really furious": (-1, -1), "full of hatred": (-1, -1), "cheerfully laughing": (0, 1), "no longer happy": (0, -1),
    "frightfully": (1, 0), "somewhat disgusted": (-1, -1), "terribly depressed": (0, -1), "quite delightedly": (0, 1),
    "a hint of amazement": (1, 0), "smilingly": (0, 1), "angrier": (-1, -1), "happiest": (0, 1), "saddest": (0, -1),
}  # fmt: skip
STRENGTHS = (0.25, 0.5, 1.0, 2.0)
SPOKEN = ("very happy", "slightly annoyed", "terribly depressed", "extremely surprised")


def main(prepared: Path) -> None:
    """Measure and write the table."""
    clips = list(_judges(prepared))
    reading, lines, right, told = lips.opening(FaceModel.pretrained()), list[str](), 0, 0
    plain = [_motion(clip, None, 1.0) for clip in clips]
    kept = list[float]()
    for phrase, expected in PHRASES.items():
        if phrase in entries():
            raise SystemExit(f"{phrase!r} is in the table")
        if read(phrase, Table.pretrained()) is None:
            told += 1
            lines.append(f"| {phrase} | {_sign(expected[0])} | {_sign(expected[1])} | refused | no |")
            continue
        rows = [_motion(clip, phrase, 1.0) for clip in clips[:1]]
        moved = _moved(rows[0] - plain[0])
        good = all(sign == 0 or sign * way > LEAST for sign, way in zip(expected, moved, strict=True))
        right, told = right + good, told + 1
        ways = " ".join(f"{142 * way:+.1f} mm" for way in moved)
        lines.append(f"| {phrase} | {_sign(expected[0])} | {_sign(expected[1])} | {ways} | {'yes' if good else 'no'} |")
        if phrase in SPOKEN:
            both = zip([*rows, *(_motion(clip, phrase, 1.0) for clip in clips[1:])], plain, strict=True)
            kept += [_correlation(a[:, EXPRESSION] @ reading, b[:, EXPRESSION] @ reading) for a, b in both]
    grows = [
        [_moved(_motion(clips[0], word, strength) - plain[0])[1] for strength in STRENGTHS]
        for word in ("bitter smile", "a bit gloomy")
    ]
    steady = all(np.all(np.diff(np.abs(each)) > 0) for each in grows)
    text = f"""# Emotions in words

`python bench/emotion.py PREPARED`: motion of `moda` for {len(clips)} clips of {SECONDS} s of people
kept out of training, against the same speech and seed without emotion. None of the phrases is in the table that words
are learned from.

| phrase | brows | corners | brows and corners of the mouth move up by (face 142 mm wide) | as expected |
|---|---|---|---|---|
{chr(10).join(lines)}

{right} of {told} ({100 * right / told:.1f} %) move as expected. Strengths {STRENGTHS}: corners move
{"; ".join(", ".join(f"{142 * way:+.1f}" for way in each) for each in grows)} mm ("bitter smile"; "a bit gloomy"): \
{"monotonic" if steady else "not monotonic"}.
Lip opening correlates {np.mean(kept):.3f} (lowest {np.min(kept):.3f}) with that of the same speech without emotion
({", ".join(SPOKEN)}).
"""
    RESULT.write_text(text)
    print(text)


def _judges(prepared: Path) -> Iterator[Prepared]:
    left = CLIPS
    for file in sorted(prepared.glob("*.npz")):
        clip = load(file) if left else None
        if clip is not None and clip.speaker in JUDGES and len(clip.audio) >= SECONDS * 16_000:
            left -= 1
            yield clip


def _motion(clip: Prepared, emotion: str | None, strength: float) -> Float[Tensor, "t d"]:
    system: System = registry.load("moda", emotion=emotion, emotion_strength=strength)
    reference = torch.zeros(1, FACE_MESH.dim)
    reference[:, FACE_MESH.slice("scale")] = reference[:, FACE_MESH.slice("eyelids")] = 1
    portrait = Portrait(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), reference, {})
    with torch.inference_mode():
        drives = system.generator.drives(portrait, _heard(clip.name, system, clip.audio), seed=0)
        change = system.edit.starting(reference, 0)
        return torch.cat([change(drive.motion).rows for drive in drives])


_HEARD = dict[str, list[Features]]()  # every clip is heard once


def _heard(name: str, system: System, audio: np.ndarray) -> list[Features]:
    if name not in _HEARD:
        sound = torch.from_numpy(audio[: SECONDS * system.clock.sample_rate])
        _HEARD[name] = list(system.audio_encoder.features(system.clock, [sound]))
    return _HEARD[name]


def _moved(change: Float[Tensor, "t d"]) -> tuple[float, float]:
    """How far brows and corners of the mouth move up on average, face widths."""
    model = FaceModel.pretrained()
    points = np.tensordot(change[:, EXPRESSION].mean(0).double().numpy(), model.expression, 1)
    return -float(points[list(BROWS), 1].mean()), -float(points[[61, 291], 1].mean())


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def _sign(way: int) -> str:
    return ("down", "", "up")[way + 1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
