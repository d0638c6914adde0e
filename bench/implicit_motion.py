"""What the generator of implicit motion can do, on clips kept out of training: steps, statistics, guidance, seams.

python bench/implicit_motion.py WEIGHTS [--against NAME=WEIGHTS ...] [--clips 13] [--minutes 3] [--out FILE.md]

WEIGHTS is what ``vivavoce train if-mdm`` wrote; ``--against`` adds others to the table of variants. VIVAVOCE_CODES and
VIVAVOCE_MOTION name the data, as for training. Lip opening is read off the codes linearly and compared with what was
measured on the face, so 1 cannot be reached; "readable" is what the true codes reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vivavoce.motion.chunks import ChunkGenerator, MotionControl, suited, times
from vivavoce.motion.codes import CodeModel, load
from vivavoce.recipes.ifmdm import figures, generated
from vivavoce.recipes.spoken import Spoken, spoken
from vivavoce.sampling.samplers import euler, multistep

ROOT = Path(__file__).parents[1]
STEPS = (50, 25, 10, 8, 5, 3)
MANY = 250  # steps that stand for infinitely many
STDS = (0.05, 0.1, 0.2, 0.3, 0.4)
GUIDANCE = (1.0, 1.5, 2.0, 3.0)
SHARES = ((1.0, 1.0), (0.3, 1.0), (0.0, 1.0), (0.3, 0.5), (0.0, 0.5), (0.0, 0.0))  # noise, trust of the lips
COLUMNS = ("correlation", "shuffled", "readable", "amplitude", "liveliness")
FREE = MotionControl("none")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--against", nargs="*", default=[], metavar="NAME=WEIGHTS")
    parser.add_argument("--clips", type=int, default=99)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "implicit_motion.md")
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    model, judged = load(given.weights), spoken()[1][: given.clips]
    others = {name: load(Path(file)) for name, file in (one.split("=", 1) for one in given.against)}
    parts = [
        f"# Implicit motion\n\n{len(judged)} clips of speakers kept out of training, "
        f"{sum(len(one.opening) for one in judged)} frames; `bench/implicit_motion.py` says what is what.\n",
        variants({"this": model, **others}, judged),
        steps(model, judged),
        statistics(model, judged),
        guidance(model, judged),
        lips(model, judged),
        seams(model, judged, round(given.minutes * 1500)),
    ]
    text = "\n".join(parts)
    print(text)
    given.out.write_text(text)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown) + "\n"


def variants(models: dict[str, CodeModel], judged: Sequence[Spoken]) -> str:
    """Networks side by side."""
    rows = []
    for name, model in models.items():
        found = figures(ChunkGenerator(model, FREE, **suited(model)), judged)
        size = sum(p.numel() for p in model.net.parameters()) / 1e6
        rows.append([name, f"{size:.2f} M", *(found[column] for column in COLUMNS)])
    return "## Variants\n\n" + table(("network", "parameters", *COLUMNS), rows)


def steps(model: CodeModel, judged: Sequence[Spoken]) -> str:
    """Samplers over their steps. How far: from many small steps with the same noise, in deviations of the codes."""
    few, rows, own = judged[:4], [], suited(model)
    exact = [made(ChunkGenerator(model, FREE, times=times(model, MANY), sampler=euler, **own), one) for one in few]
    for name, sampler in (("Euler (DDIM)", euler), ("multistep (DPM-Solver++ 2M)", multistep)):
        for count in STEPS:
            generator = ChunkGenerator(model, FREE, times=times(model, count), sampler=sampler, **own)
            began = time.process_time()
            codes = [made(generator, one) for one in few]
            cost = (time.process_time() - began) / sum(len(one) for one in codes) * 1000
            far = [float(((a - b) / model.std).square().mean().sqrt()) for a, b in zip(codes, exact, strict=True)]
            found = figures(generator, judged)
            rows.append([name, count, found["correlation"], found["shuffled"], float(np.mean(far)), cost])
    head = ("sampler", "steps", "correlation", "shuffled", f"from {MANY} steps", "CPU ms/frame")
    return "## Steps\n\n" + table(head, rows)


def statistics(model: CodeModel, judged: Sequence[Spoken]) -> str:
    """Deviation asked for and found, and what is left of the lips."""
    asked, found, rows = [], [], []
    for std in (None, *STDS):
        control = MotionControl("portrait", std)
        generator = ChunkGenerator(model, control, **suited(model))
        lips = figures(generator, judged)["correlation"]
        spread = float(np.mean([deviation(model, made(generator, one)) for one in judged]))
        rows.append(["not asked" if std is None else std, spread, lips])
        if std is not None:
            asked.append(std)
            found.append(spread)
    rank = rank_correlation(np.array(asked), np.array(found))
    calm, lively = (float(rows[1 + STDS.index(std)][2]) for std in (0.1, 0.3))
    note = f"Rank correlation {rank:.2f}; lip correlation from std 0.1 to 0.3: {100 * (lively / calm - 1):+.1f} %.\n"
    means = [
        [mean, figures(generator, judged)["correlation"], travel(generator, judged)]
        for mean in ("none", "portrait", "last")
        for generator in (ChunkGenerator(model, MotionControl(mean), **suited(model)),)
    ]
    first = table(("std asked for", "std found", "correlation"), rows)
    return f"## Statistics\n\n{first}\n{note}\n" + table(("mean", "correlation", "from the portrait's code"), means)


def deviation(model: CodeModel, codes: Tensor) -> float:
    """Mean over chunks and numbers of the unbiased deviation, in the unit that is asked for."""
    length = model.config.length
    pieces = [codes[at : at + length] for at in range(0, len(codes) - length + 1, length)]
    return float(np.mean([float((piece.std(0) / model.spread).mean()) for piece in pieces]))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, without ties."""
    ranks = np.stack([np.argsort(np.argsort(one)) for one in (a, b)])
    return float(np.corrcoef(ranks)[0, 1])


def travel(generator: ChunkGenerator, judged: Sequence[Spoken]) -> float:
    """How far codes are from the portrait's on average, in deviations of the codes."""
    far = [(made(generator, one) - torch.from_numpy(one.take.rows[0])) / generator.model.std for one in judged]
    return float(np.mean([float(one.square().mean().sqrt()) for one in far]))


def guidance(model: CodeModel, judged: Sequence[Spoken]) -> str:
    """How far to push along the sound."""
    rows = []
    for scale in GUIDANCE:
        found = figures(ChunkGenerator(model, FREE, guidance=scale, **suited(model)), judged)
        rows.append([scale, *(found[column] for column in COLUMNS)])
    return "## Guidance\n\n" + table(("scale", *COLUMNS), rows)


def lips(model: CodeModel, judged: Sequence[Spoken]) -> str:
    """Less chance in the lips: of the noise they start from, of what is sampled beside the draft."""
    rows = []
    for noise, trust in SHARES:
        settings = suited(model) | {"lip_noise": noise, "lip_trust": trust}
        found = figures(ChunkGenerator(model, FREE, **settings), judged)
        rows.append([noise, trust, *(found[column] for column in COLUMNS)])
    return "## Lips\n\n" + table(("noise", "trust", *COLUMNS), rows)


def seams(model: CodeModel, judged: Sequence[Spoken], frames: int) -> str:
    """Steps where chunks meet against steps elsewhere, and whether the face wanders off, over minutes."""
    audio = np.concatenate([one.take.audio for one in judged if one.take.audio is not None])
    audio = np.resize(audio, (frames, audio.shape[1]))
    own, rows = torch.from_numpy(judged[0].take.rows[0]), []
    ways = {"all new": {"fade": 0}, "all new, faded over 4": {"fade": 4}}
    if model.config.goes_on:
        ways |= {f"{fresh} new": {"fresh": fresh, "fade": 0} for fresh in (4, 7, 16)}
    for mean in ("none", "portrait", "last"):
        for name, chunks in ways.items():
            generator = ChunkGenerator(model, MotionControl(mean), **chunks)
            codes = generated(generator, own, audio) / model.std
            move = codes.diff(dim=0).norm(dim=1)
            bend = codes.diff(n=2, dim=0).norm(dim=1)
            at = torch.zeros(len(codes) - 1, dtype=torch.bool)
            at[generator.hop - 1 :: generator.hop] = True
            far = (codes - own / model.std).square().mean(1).sqrt()
            third = len(far) // 3
            rows.append(
                [
                    mean,
                    name,
                    generator.hop + generator.lookahead,
                    float(move[at].mean() / move[~at].mean()),
                    float(move[at].max() / move[~at].max()),
                    float(bend[at[1:]].mean() / bend[~at[1:]].mean()),
                    float(far[:third].mean()),
                    float(far[-third:].mean()),
                ]
            )
    head = (
        "mean",
        "frames of a chunk",
        "heard first",
        "step ratio",
        "largest",
        "bend ratio",
        "away, first third",
        "away, last third",
    )
    return f"## Seams over {frames / 1500:g} minutes\n\n" + table(head, rows)


def made(generator: ChunkGenerator, one: Spoken) -> Tensor:
    """Codes for a clip, with its first as portrait."""
    assert one.take.audio is not None  # noqa: S101  (judges have sound)
    return generated(generator, torch.from_numpy(one.take.rows[0]), one.take.audio)


if __name__ == "__main__":
    main()
