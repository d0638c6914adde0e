"""What emotions in words do to painted faces: `python bench/tgdm_emotion.py DATA [--weights WEIGHTS] [--steps 1]`.

DATA is a folder of recordings with a manifest; pictures and speech are of its split ``heldout``. What was painted is
tracked again: where brows, corners of the mouth and lips are is measured in the pictures, not in the motion.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from emotion import PHRASES
from jaxtyping import Float
from torch import Tensor

from vivavoce import registry
from vivavoce.data.clips import Recording, recordings
from vivavoce.emotion.text import Table, read
from vivavoce.emotion.words import entries
from vivavoce.evaluate.lipsync import correlation, seen_opening
from vivavoce.face.mesh import BROWS
from vivavoce.face.model import FaceModel
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_audio, read_video
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.render.texture import TextureRenderer
from vivavoce.system import Drive, Features, Portrait
from vivavoce.timeline import Span

RESULT = Path(__file__).parent / "results" / "tgdm_emotion.md"
FRAMES, SIDE, SPARSE, DENSE = 50, 256, 10, 2  # frames of speech; pixels; every which frame is painted
CLIPS = 2
STRENGTHS = (0.25, 0.5, 1.0, 2.0)
GROWING = {"bitter smile": 1, "a bit gloomy": -1}  # and where corners of the mouth go
SPOKEN = ("very happy", "slightly annoyed", "terribly depressed", "extremely surprised")
FACE = 142.0  # millimetres, a face's width


@dataclass
class Scene:
    """A person and their own speech."""

    name: str
    renderer: TextureRenderer
    portrait: Portrait
    heard: list[Features]
    true: Float[np.ndarray, " t"]  # their lips' opening
    tracker: FaceTracker

    def rows(self, emotion: str | None, strength: float = 1.0) -> Float[Tensor, "t d"]:
        """Motion of ``moda``."""
        system = registry.load("moda", emotion=emotion, emotion_strength=strength)
        drives = system.generator.drives(self.portrait, self.heard, seed=0)
        change = system.edit.starting(self.portrait.reference, 0)
        return torch.cat([change(drive.motion).rows for drive in drives])[:FRAMES]

    def shapes(self, rows: Float[Tensor, "t d"]) -> Float[np.ndarray, "t 478 3"]:
        """Landmarks of what is painted, tracked, as seen from the front in face widths."""
        drive = Drive(Motion(Span(0, len(rows)), FACE_MESH, rows), torch.zeros(len(rows), 0))
        made = torch.cat([frames.rgb for frames in self.renderer.frames(self.portrait, [drive])])
        found = self.tracker.follow([np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in made])
        model = FaceModel.pretrained()
        return np.stack([model.canonical(face.landmarks.astype(np.float64))[0] for face in found if face is not None])


def scene(one: Recording, renderer: TextureRenderer) -> Scene | None:
    """``None`` where the face is not seen throughout."""
    frames = list(islice(read_video(one.path, 25), FRAMES))
    tracker = FaceTracker()
    found = [f for f in tracker.follow([np.ascontiguousarray(p.permute(1, 2, 0).numpy()) for p in frames]) if f]
    sound = torch.cat(list(read_audio(one.path, 16_000)))[: FRAMES * 640]
    if len(found) < FRAMES or len(sound) < FRAMES * 640:
        return None
    opening = seen_opening(np.stack([face.landmarks.astype(np.float64) for face in found]))
    system = registry.load("moda")
    shut = int(np.argmin(opening))
    portrait = renderer.portrait(frames[shut][None])
    return Scene(
        one.name, renderer, portrait, list(system.audio_encoder.features(system.clock, [sound])), opening, tracker
    )


def moved(shapes: Float[np.ndarray, "t 478 3"], plain: Float[np.ndarray, "t 478 3"]) -> tuple[float, float]:
    """How far brows and corners of the mouth are higher on average, face widths."""
    change = shapes.mean(0) - plain.mean(0)
    return -float(change[list(BROWS), 1].mean()), -float(change[[61, 291], 1].mean())


def phrases(there: Scene, plain: Float[np.ndarray, "t 478 3"]) -> tuple[list[str], int, int]:
    """A row of the table for every phrase; how many move as expected, and of how many."""
    lines, right = list[str](), 0
    asked = {phrase: ways for phrase, ways in PHRASES.items() if phrase not in entries()}
    for phrase, expected in asked.items():
        if read(phrase, Table.pretrained()) is None:
            lines.append(f"| {phrase} | refused | | no |")
            continue
        ways = moved(there.shapes(there.rows(phrase)[::SPARSE]), plain)
        good = all(sign * way > 0 for sign, way in zip(expected, ways, strict=True) if sign)
        right += good
        told = [
            f"{FACE * way:+.1f}{' (' + _sign(sign) + ')' if sign else ''}"
            for sign, way in zip(expected, ways, strict=True)
        ]
        lines.append(f"| {phrase} | {told[0]} | {told[1]} | {'yes' if good else 'no'} |")
        print(lines[-1], flush=True)
    return lines, right, len(asked)


def _sign(way: int) -> str:
    return "up" if way > 0 else "down"


def grown(there: Scene, plain: Float[np.ndarray, "t 478 3"]) -> str:
    """Corners of the mouth at growing strength."""
    told = []
    for phrase, way in GROWING.items():
        found = [moved(there.shapes(there.rows(phrase, much)[::SPARSE]), plain)[1] for much in STRENGTHS]
        steady = "monotonic" if np.all(np.diff(way * np.array(found)) > 0) else "not monotonic"
        told.append(f'"{phrase}" {", ".join(f"{FACE * one:+.1f}" for one in found)} mm ({steady})')
    return "; ".join(told)


def spoken(scenes: list[Scene]) -> list[str]:
    """What is left of the lips' movement under emotion."""
    rows = []
    for there in scenes:
        plain = seen(there.shapes(there.rows(None)[::DENSE]))
        true = there.true[::DENSE]
        alike = {"no emotion": (1.0, correlation(plain, true))}
        for phrase in SPOKEN:
            lips = seen(there.shapes(there.rows(phrase)[::DENSE]))
            alike[phrase] = correlation(lips, plain), correlation(lips, true)
        for phrase, (own, truth) in alike.items():
            rows.append(f"| {there.name} | {phrase} | {own:.2f} | {truth:.2f} |")
            print(rows[-1], flush=True)
    return rows


def seen(shapes: Float[np.ndarray, "t 478 3"]) -> Float[np.ndarray, " t"]:
    """Opening of lips in face widths."""
    return np.maximum((shapes[:, [87, 14, 317], 1] - shapes[:, [82, 13, 312], 1]).mean(1), 0)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    options = {} if given.weights is None else {"weights": given.weights}
    system = registry.load("tgdm", crop=True, size=SIDE, steps=given.steps, **options)
    renderer, scenes = system.renderer, dict[str, Scene]()
    if not isinstance(renderer, TextureRenderer):
        raise SystemExit("tgdm does not paint")
    with torch.inference_mode():
        for one in recordings(given.data, kinds=("talking",), split="heldout"):
            if len(scenes) < CLIPS and one.speaker not in scenes and (there := scene(one, renderer)) is not None:
                scenes[one.speaker] = there
        first, *_ = people = list(scenes.values())
        plain = first.shapes(first.rows(None)[::SPARSE])
        lines, right, count = phrases(first, plain)
        text = _report(lines, right, count, grown(first, plain), spoken(people), given.steps)
    print(text)
    given.out.write_text(text)


def _report(lines: list[str], right: int, count: int, growth: str, lips: list[str], steps: int) -> str:
    return f"""# Emotions in words, on painted faces

`python bench/tgdm_emotion.py DATA`, {steps} step(s): people never seen speak their own words, {FRAMES} frames at 25 a
second, from their picture with the lips most shut; what is painted is tracked again. None of the phrases is in the
table that words are learned from.

Against the same speech and seed without emotion, one frame in {SPARSE}, brows and corners of the mouth are higher by
(face {FACE:.0f} mm wide; in brackets, what is expected):

| phrase | brows, mm | corners, mm | as expected |
|---|---|---|---|
{chr(10).join(lines)}

{right} of {count} ({100 * right / count:.0f} %) move as expected. Corners at strengths {STRENGTHS}: {growth}.

Lip opening, one frame in {DENSE}: correlation with the painted lips of the same speech without emotion, and with the
person's own.

| clip | | without emotion | the person's own |
|---|---|---|---|
{chr(10).join(lips)}
"""


if __name__ == "__main__":
    main()
