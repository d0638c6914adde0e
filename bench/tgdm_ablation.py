"""What texture attention and coefficients are worth to TGDM's painter, on people kept out of training.

`python bench/tgdm_ablation.py WHOLE [NAME=WEIGHTS ...] [--pairs 96] [--steps 1] [--title WORDS] [--out FILE]` reads
what training reads (`docs/systems/tgdm.md`, Training). WHOLE is a painter as it is; to it textures, coefficients and
both are hidden at use as well. NAME=WEIGHTS are others, such as those that learned without them from the same batches.
All paint the same pairs from the same noise; a section is added to FILE, or replaced there if it has the same title.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vivavoce.nets.tgdm import KEPT, MASK, Tgdm, sketched
from vivavoce.recipes.fitted import Faces, batch, clips, some
from vivavoce.recipes.tgdm import windowed
from vivavoce.sampling.texturing import paint

RESULT = Path(__file__).parent / "results" / "tgdm_ablation.md"
AT_ONCE = 8
NEAR = 0.4  # share of a picture's largest weight that mouth and eyes have
HEAD = """# What texture attention and coefficients are worth

Written by `bench/tgdm_ablation.py`, section by section. dB on pairs of frames of people kept out of training; means,
and differences to the first painter with their standard errors over people in brackets.
"""


@dataclass(frozen=True)
class Judged:
    """Pairs of frames, the parts of their pictures that are judged, and who each shows."""

    faces: Faces
    regions: dict[str, Bool[Tensor, "b w w"]]
    swapped: Bool[np.ndarray, " b"]
    who: list[str]


def pairs(count: int, net: Tgdm) -> Judged:
    """Half of the pairs are swapped, half reenacted."""
    rng = np.random.default_rng(0)
    chosen = some(clips()[1], count, rng, vary=False)
    faces = windowed(batch(chosen, rng), net.config)
    free = faces.drawn[:, KEPT] < 0.5
    face, near = faces.drawn[:, MASK] > 0, faces.weight > NEAR * faces.weight.amax((1, 2), keepdim=True)
    regions = {"face": face & free, "mouth, eyes": near & free, "around": ~face & free}
    swapped = faces.drawn[:, KEPT].amax((1, 2)) > 0
    return Judged(faces, regions, swapped.numpy(), [pair.clip.frames.speaker for pair in chosen])


def painted(net: Tgdm, faces: Faces, steps: int) -> Float[Tensor, "b 3 w w"]:
    """What the painter makes of pairs, with what is kept of them."""
    made = list[Tensor]()
    start = torch.Generator().manual_seed(0)
    for part in _parts(faces):
        with torch.inference_mode():
            sight = net.sight(part.known, part.drawn, part.face, net.painter.textures(part.source))
            noise = torch.randn(sight.known.shape, generator=start)
            change = net.decode(paint(net, noise, sight, steps=steps)) - net.before(sight, part.known)
            made.append(part.known + change * (1 - part.drawn[:, KEPT:]))
    return torch.cat(made).clamp(-1, 1)


def _parts(faces: Faces) -> Iterator[Faces]:
    for at in range(0, len(faces.truth), AT_ONCE):
        yield Faces(*(getattr(faces, one.name)[at : at + AT_ONCE] for one in fields(Faces)))


def _latents(net: Tgdm, faces: Faces) -> Float[Tensor, "b 3 w w"]:
    with torch.inference_mode():
        return torch.cat([net.decode(net.encode(part.truth)) for part in _parts(faces)]).clamp(-1, 1)


def ways(first: Path, others: dict[str, Path], judged: Judged, steps: list[int]) -> dict[str, Tensor]:
    """Names of what is compared and its pictures; the first painter as it is comes first."""
    net, faces = Tgdm.load(first), judged.faces
    whole, found = net.painter.config, {"whole": painted(net, faces, steps[0])}
    hidden = {
        "textures hidden at use": replace(whole, textures=False),
        "coefficients hidden at use": replace(whole, told=False),
        "both hidden at use": replace(whole, textures=False, told=False),
    }
    for name, config in hidden.items():
        net.painter.config = config
        found[name] = painted(net, faces, steps[0])
    net.painter.config = whole
    for count in steps[1:]:
        found[f"whole, {count} steps"] = painted(net, faces, count)
    found |= {name: painted(Tgdm.load(place), faces, steps[0]) for name, place in others.items()}
    found["the carried picture"] = faces.known
    found["the drawn face"] = sketched(faces.known, faces.drawn)[0]
    found["the truth through latents"] = _latents(net, faces)
    return found


def decibels(made: Tensor, judged: Judged, region: str) -> Float[np.ndarray, " b"]:
    """Of every pair; NaN where the region is empty."""
    where = judged.regions[region]
    off = (made - judged.faces.truth).square().mean(1) / 4
    mean = (off * where).sum((1, 2)) / where.sum((1, 2))
    return (-10 * torch.log10(mean.clamp_min(1e-6))).numpy()


def cells(made: dict[str, Tensor], judged: Judged, columns: list[tuple[bool, str]]) -> list[str]:
    """Rows of the table."""
    first, rows = next(iter(made)), []
    found = {name: [decibels(one, judged, region) for _, region in columns] for name, one in made.items()}
    for name, each in found.items():
        row = []
        for (swapped, _), values, reference in zip(columns, each, found[first], strict=True):
            used = (judged.swapped == swapped) & np.isfinite(values)
            more, error = _over_people((values - reference)[used], np.array(judged.who)[used])
            row.append(f"{values[used].mean():.2f}" + ("" if name == first else f" ({more:+.2f} ± {error:.2f})"))
        rows.append(f"| {name} | {' | '.join(row)} |")
    return rows


def _over_people(values: Float[np.ndarray, " b"], who: np.ndarray) -> tuple[float, float]:
    """Mean over pairs, and the standard error of the mean over people."""
    means = np.array([values[who == one].mean() for one in np.unique(who)])
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whole", type=Path)
    parser.add_argument("others", nargs="*", metavar="NAME=WEIGHTS")
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--steps", type=int, nargs="+", default=[1])
    parser.add_argument("--title", default="A painter")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    others = {name: Path(place) for name, place in (one.split("=", 1) for one in given.others)}
    judged = pairs(given.pairs, Tgdm.load(given.whole))
    columns = [(False, region) for region in judged.regions] + [(True, region) for region in list(judged.regions)[:2]]
    made = ways(given.whole, others, judged, given.steps)
    names = " | ".join(f"{'swapped' if swapped else 'reenacted'}: {region}" for swapped, region in columns)
    section = f"""## {given.title}

{given.pairs} pairs of {len(set(judged.who))} people, {given.steps[0]} step{"s" * (given.steps[0] > 1)} where not said.

| | {names} |
|---|{"---|" * len(columns)}
{chr(10).join(cells(made, judged, columns))}
"""
    print(section)
    given.out.write_text(_put(given.out.read_text() if given.out.exists() else HEAD, given.title, section))


def _put(text: str, title: str, section: str) -> str:
    """``text`` with the section in the place of the one with this title, or at the end."""
    head, *sections = text.split("\n## ")
    kept = {one.splitlines()[0]: one.strip("\n") for one in sections}
    kept[title] = section.removeprefix("## ").strip("\n")
    return "\n\n## ".join([head.strip("\n"), *kept.values()]) + "\n"


if __name__ == "__main__":
    main()
