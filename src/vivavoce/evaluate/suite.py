"""``vivavoce evaluate``: everything that is measured on people never seen in training, and the bars it must reach.

Two parts. *Reenactment* shows how well a face is drawn: each person's first frame moves like the rest of their video.
*Talking* shows how well motion is made: the voice drives the generator, and the motion that the renderer would get, or
that is tracked in the pictures where that motion is of another kind, is held against what the person's face really did.
Frames and motion come from ``System.stream`` alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vivavoce.data.clips import Recording, recordings
from vivavoce.data.prepare import Prepared, load, prepare
from vivavoce.errors import InputError
from vivavoce.evaluate import baselines, lipsync, seen, talking
from vivavoce.evaluate.reenactment import NAMES, Tally, compare, first_seen
from vivavoce.evaluate.report import Bar, Results, markdown
from vivavoce.evaluate.talking import Score
from vivavoce.face.track import FaceTracker
from vivavoce.motion.space import FACE_MESH
from vivavoce.registry import DRIVEN
from vivavoce.registry import load as load_system
from vivavoce.render.mesh import MeshRenderer
from vivavoce.system import Portrait, System

SIZE = 512  # px
WATCHED, LONGEST = 3, 8  # clips that are drawn and tracked again, and the seconds of each that are
SEEDS = (0, 1, 2)  # one sample each; their figures are averaged
REENACTED_AT_LEAST = 5.5  # dB of the face over the first frame
DRAWN_BY = {"moda-liveportrait": "liveportrait"}  # what follows a video with the renderer of what only speaks
Report = Callable[[str], None]


def run(
    data: Path,
    split: str,
    out: Path,
    *,
    system: str = "moda",
    weights: Path | None = None,
    limit: int | None = None,
    report: Report,
) -> Results:
    """Measure ``system`` on the talking clips of ``split`` and write ``results.json`` and ``results.md`` into ``out``.

    Tracked clips are kept in ``out/clips``, so a second run is quicker. ``weights`` are the system's, where it takes
    any. ``limit`` takes only the first clips.
    Raises :class:`vivavoce.errors.InputError` when ``data`` has no such clips or none of them shows a face.
    """
    options: dict[str, Any] = {"size": SIZE} | ({} if weights is None else {"weights": weights})
    out.mkdir(parents=True, exist_ok=True)
    found = recordings(data, kinds=("talking",), split=split)[:limit]
    prepare(found, out / "clips", report)
    pairs = [(r, load(file)) for r in found if (file := out / "clips" / f"{r.name}.npz").exists()]
    if not pairs:
        raise InputError(f"no talking clip of split {split!r} in {data} shows a face throughout")
    clips = [clip for _, clip in pairs]
    talker = load_system(system, **options)
    redrawn, drawn_by_clip = reenacted(pairs, system, options, report)
    spoken, spoken_by_clip = spoken_figures(talker, pairs, report)
    results = Results(
        data=str(data.name),
        split=split,
        system=system,
        clips=[clip.name for clip in clips],
        seconds=sum(len(clip.rows) for clip in clips) / lipsync.FPS,
        reenactment=redrawn,
        talking=spoken,
        seen=watched(talker, pairs, report) if _is_mesh(talker) else {},
        bars=(bars if _is_mesh(talker) else implicit_bars)(redrawn, spoken),
        by_clip={name: {**drawn_by_clip.get(name, {}), **spoken_by_clip.get(name, {})} for name in spoken_by_clip},
    )
    (out / "results.json").write_text(json.dumps(_plain(asdict(results)), indent=1) + "\n")
    (out / "results.md").write_text(markdown(results))
    return results


def _is_mesh(system: System) -> bool:
    return system.renderer.space == FACE_MESH


def reenacted(
    pairs: Sequence[tuple[Recording, Prepared]], system: str, options: Mapping[str, Any], report: Report
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Self-reenactment over all clips, and by clip; by what draws for ``system``, built with ``options``."""
    tracker, total, by_clip = FaceTracker(), Tally(), {}
    for recording, clip in pairs:
        driven = system if system in DRIVEN else DRAWN_BY.get(system, "reenact")
        whole = load_system(driven, driving=recording.path, relative=True, **options)
        plain = MeshRenderer(size=SIZE, paints_mouth=False) if _is_mesh(whole) else None
        tally = compare(recording, clip, whole, plain, size=SIZE, tracker=tracker)
        by_clip[clip.name] = tally.means()
        total.merge(tally)
        face = by_clip[clip.name].get(f"{NAMES[0]}/face/psnr", math.nan)
        report(f"{clip.name}: redrawn, face {face:.1f} dB")
    return total.means(), by_clip


def spoken_figures(
    system: System, pairs: Sequence[tuple[Recording, Prepared]], report: Report
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Speech-driven figures of the system, the baselines and the real people; and the system's by clip."""
    scores: dict[str, list[Score]] = {}
    silence: list[np.ndarray] = []
    by_clip: dict[str, dict[str, float]] = {}
    clips = [clip for _, clip in pairs]
    for index, (recording, clip) in enumerate(pairs):
        portrait = first_frame(system, recording, clip)
        made, quiet = _made(system, portrait, clips, index)
        true = talking.truth(clip, talking.bilabials(clip.audio, len(clip.rows)))
        found = {name: [talking.score(rows, true) for rows in samples] for name, samples in made.items()}
        for name, several in found.items():
            scores.setdefault(name, []).extend(several)
        silence.append(quiet)
        by_clip[clip.name] = talking.pooled(found["one sample"]) | {"frames": float(len(clip.rows))}
        report(f"{clip.name}: spoken, lip opening correlates by {by_clip[clip.name]['opening']:.2f}")
    figures = {name: talking.pooled(several) for name, several in scores.items()}
    figures["one sample"] |= talking.compared(figures["one sample"], figures["real people"])
    figures["one sample"]["opening_in_silence"] = float(np.median(np.concatenate(silence)))
    return figures, by_clip


def watched(system: System, pairs: Sequence[tuple[Recording, Prepared]], report: Report) -> dict[str, float]:
    """Whether the drawn lips do what the motion says, on a few of the clips, one per person."""
    tracker, pieces, true = FaceTracker(), [], []
    people = {clip.speaker: (recording, clip) for recording, clip in reversed(pairs)}
    for recording, clip in list(people.values())[-WATCHED:]:
        sound = clip.audio[: LONGEST * talking.RATE]
        pieces.append(seen.watch(system, first_frame(system, recording, clip), sound, seed=SEEDS[0], tracker=tracker))
        true.append(lipsync.lips(clip.rows.astype(np.float64)).opening)
        report(f"{clip.name}: drawn from its sound and tracked again")
    return seen.compared(pieces) | {"truth": seen.truth_correlation(pieces, true)}


def first_frame(system: System, recording: Recording, clip: Prepared) -> Portrait:
    """The person's first frame with a face as a portrait, prepared by the system's own renderer."""
    source, _ = first_seen(recording, clip, SIZE)
    with torch.inference_mode():
        return system.renderer.portrait(source)


def _made(
    system: System, portrait: Portrait, clips: Sequence[Prepared], index: int
) -> tuple[dict[str, list[Float[np.ndarray, "_t 48"]]], Float[np.ndarray, " _s"]]:
    """Motion for one clip by who made it, and how far the mouth is open in the silence after the speech."""
    clip, frames = clips[index], len(clips[index].rows)
    reference = (portrait.reference[0] if _is_mesh(system) else torch.from_numpy(clip.rows[0])).double().numpy()
    heard = talking.with_silence(clip.audio)
    seeds = SEEDS if _is_mesh(system) else SEEDS[:1]  # drawing and tracking take long
    long = [talking.motion(system, portrait, heard, seed=seed) for seed in seeds]
    samples = [rows[:frames] for rows in long]
    made = {
        "one sample": samples,
        f"mean of {len(seeds)} samples": [np.mean(samples, axis=0)],
        "loudness-driven jaw": [baselines.loudness_jaw(clip.audio, reference, frames).astype(np.float64)],
        "mean face": [baselines.mean_face(reference, frames).astype(np.float64)],
        "real people": [clip.rows.astype(np.float64)],
    }
    if len({one.speaker for one in clips}) > 1:
        other = talking.another_voice(clips, index)
        made["shuffled audio"] = [talking.motion(system, portrait, other, seed=seed)[:frames] for seed in seeds]
    return made, np.concatenate([talking.after_speech(rows, frames) for rows in long])


def bars(redrawn: Mapping[str, float], spoken: Mapping[str, Mapping[str, float]]) -> list[Bar]:
    """What must be reached, and what was."""
    made, empty = spoken["one sample"], {"opening": math.nan}
    opening = made["opening"]
    over = {name: opening - spoken.get(name, empty)["opening"] for name in ("shuffled audio", "loudness-driven jaw")}
    face, mouth = _gain(redrawn, "face", "first frame"), _gain(redrawn, "mouth", "plain warp")
    sharp, alive = (redrawn.get(f"{NAMES[0]}/{n}", math.nan) / redrawn.get(f"truth/{n}", math.nan) for n in _INSIDE)
    return [
        Bar("lip opening, correlation with the truth", opening, at_least=0.60),
        Bar("... above shuffled audio", over["shuffled audio"], at_least=0.25),
        Bar("... above a loudness-driven jaw", over["loudness-driven jaw"], at_least=0.10),
        Bar("best lag, frames", made["lag"], at_least=-1.0, at_most=1.0),
        Bar("closure on m, b, p", made["closure"], at_least=0.75),
        Bar("median mouth opening in silence, share of wide open", made["opening_in_silence"], at_most=0.10),
        Bar("blinks a minute", made["blinks_per_minute"], at_least=8.0, at_most=30.0),
        Bar("head rotation speed over real", made["turning_ratio"], at_least=0.7, at_most=1.3),
        Bar("head translation speed over real", made["moving_ratio"], at_least=0.7, at_most=1.3),
        Bar("lip speed over real", made["lip_speed_ratio"], at_least=0.7, at_most=1.3),
        Bar("face above the first frame, dB", face[0], at_least=REENACTED_AT_LEAST),
        Bar("mouth above the plain warp, dB", mouth[0], at_least=0.0),
        Bar("mouth above the plain warp, SSIM", mouth[1], at_least=0.0),
        Bar("sharpness inside the lips over the truth's", sharp, at_least=0.7, at_most=1.3),
        Bar("frame-to-frame change inside the lips over the truth's", alive, at_least=0.8, at_most=1.3),
        Bar("face found in redrawn frames", redrawn.get("face found", math.nan), at_least=0.99),
    ]


def implicit_bars(redrawn: Mapping[str, float], spoken: Mapping[str, Mapping[str, float]]) -> list[Bar]:
    """The same for a system whose networks know no face: its pictures are tracked."""
    made, empty = spoken["one sample"], {"opening": math.nan}
    face, whole = _gain(redrawn, "face", "first frame"), _gain(redrawn, "frame", "first frame")
    over = made["opening"] - spoken.get("shuffled audio", empty)["opening"]
    return [
        Bar("lip opening, correlation with the truth", made["opening"], at_least=0.45),
        Bar("... above shuffled audio", over, at_least=0.2),
        Bar("best lag, frames", made["lag"], at_least=-1.0, at_most=1.0),
        Bar("face above the first frame, dB", face[0], at_least=2.0),
        Bar("face above the first frame, SSIM", face[1], at_least=0.0),
        Bar("frame above the first frame, dB", whole[0], at_least=2.0),
        Bar("face found in redrawn frames", redrawn.get("face found", math.nan), at_least=0.99),
    ]


_INSIDE = ("sharpness", "change")


def _gain(redrawn: Mapping[str, float], region: str, over: str) -> tuple[float, float]:
    """PSNR (dB) and SSIM in ``region`` above those of ``over``."""
    ours, theirs = (
        [redrawn.get(f"{name}/{region}/{kind}", math.nan) for kind in ("psnr", "ssim")] for name in (NAMES[0], over)
    )
    return ours[0] - theirs[0], ours[1] - theirs[1]


def _plain(value: Any) -> Any:
    """JSON has no word for what could not be measured but null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
