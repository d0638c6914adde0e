"""Keypoints to frame, ours against the published implementation: same random weights, same inputs, same process.

python bench/keypoint.py CHECKOUT [--rounds 5] [--threads 2] [--out bench/results/keypoint.md]

CHECKOUT is a folder with LivePortrait's ``src``. Rounds alternate between the two, so that a busy machine slows both;
medians of wall and CPU time are given. Needs PyYAML (for the published configuration) besides this package.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vivavoce.evaluate.speed import machine
from vivavoce.importing.liveportrait import import_liveportrait
from vivavoce.nets.liveportrait import Networks

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from golden import weights as golden  # noqa: E402

SEED = 1
Draw = Callable[[], Tensor]


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds, in seconds."""

    wall: float
    cpu: float


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--half", action="store_true", help="measure bf16 too, even where it is emulated")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "keypoint.md")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    published = _published(given.checkout)
    with tempfile.TemporaryDirectory() as folder:
        _write(published, Path(folder) / "published")
        weights = import_liveportrait(Path(folder) / "published", Path(folder) / "ours").parent
        quick, plain = Networks.load(weights), Networks.load(weights, quick=False)
    contenders = _contenders(published, quick, plain)
    if not (given.half or "AVX512" in torch.backends.cpu.get_cpu_capability()):
        contenders = {name: draw for name, draw in contenders.items() if "bf16" not in name}
    frames = {name: draw() for name, draw in contenders.items()}  # the first call also compiles
    timings = _timed(contenders, given.rounds)
    text = _report(frames, timings, given.threads, given.rounds)
    print(text)
    given.out.write_text(text)


def _published(checkout: Path) -> dict[str, nn.Module]:
    """The published networks with random weights."""
    import yaml

    sys.path.insert(0, str(checkout))
    from src.modules.appearance_feature_extractor import AppearanceFeatureExtractor
    from src.modules.motion_extractor import MotionExtractor
    from src.modules.spade_generator import SPADEDecoder
    from src.modules.stitching_retargeting_network import StitchingRetargetingNetwork
    from src.modules.warping_network import WarpingNetwork

    sizes = yaml.safe_load((checkout / "src" / "config" / "models.yaml").read_text())["model_params"]
    small = sizes["stitching_retargeting_module_params"]
    networks = {
        "appearance_feature_extractor": AppearanceFeatureExtractor(**sizes["appearance_feature_extractor_params"]),
        "motion_extractor": MotionExtractor(**sizes["motion_extractor_params"]),
        "warping_module": WarpingNetwork(**sizes["warping_module_params"]),
        "spade_generator": SPADEDecoder(**sizes["spade_generator_params"]),
        "retarget_shoulder": StitchingRetargetingNetwork(**small["stitching"]),
        "retarget_mouth": StitchingRetargetingNetwork(**small["lip"]),
        "retarget_eye": StitchingRetargetingNetwork(**small["eye"]),
    }
    for name, network in networks.items():
        state = network.state_dict()
        network.load_state_dict({key: golden.weight(SEED, f"{name}.{key}", tuple(v.shape)) for key, v in state.items()})
        network.eval()
    return networks


def _write(networks: dict[str, nn.Module], folder: Path) -> None:
    """In the published layout."""
    folder.mkdir()
    small = {name: network for name, network in networks.items() if name.startswith("retarget")}
    for name in networks.keys() - small.keys():
        torch.save(networks[name].state_dict(), folder / f"{name}.pth")
    wrapped = {n: {f"module.{key}": v for key, v in net.state_dict().items()} for n, net in small.items()}
    torch.save(wrapped, folder / "stitching_retargeting_module.pth")


def _contenders(published: dict[str, nn.Module], quick: Networks, plain: Networks) -> dict[str, Draw]:
    """Each draws the same frame; what depends on the source alone is ours to keep, theirs to repeat."""
    volume = quick.appearance(golden.uniform(SEED, "picture", (1, 3, 256, 256)))
    source = golden.normal(SEED, "source", (1, 21, 3), 0.3)
    driving = source + golden.normal(SEED, "driving", (1, 21, 3), 0.03)
    warp, decode = published["warping_module"], published["spade_generator"]

    def theirs() -> Tensor:
        return decode(warp(volume, kp_driving=driving, kp_source=source)["out"])

    def theirs_half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return theirs().float()

    def ours(networks: Networks) -> Draw:
        seen = networks.warping.seen(volume, source)
        return lambda: networks.decoder(networks.warping(volume, driving, source, seen).features)

    def ours_half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours_plain().float()

    ours_plain = ours(plain)
    return {
        "published, fp32": theirs,
        "ours, fp32, ordinary convolutions": ours_plain,
        "ours, fp32, quick convolutions (the default on a CPU)": ours(quick),
        "published, bf16": theirs_half,
        "ours, bf16": ours_half,
    }


def _timed(contenders: dict[str, Draw], rounds: int) -> dict[str, Timing]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, draw in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            draw()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timing(*(statistics.median(column) for column in zip(*t, strict=True))) for name, t in times.items()}


def _report(frames: dict[str, Tensor], timings: dict[str, Timing], threads: int, rounds: int) -> str:
    facts, instructions = machine(), torch.backends.cpu.get_cpu_capability()
    reference, first = frames["published, fp32"], timings["published, fp32"]
    lines = [
        "# Keypoints to frame",
        "",
        "One 512 x 512 frame: warping network and decoder, batch 1. Same random weights in the published layout, same",
        f"inputs, one process, {threads} threads, medians of {rounds} alternating rounds. The machine was not idle, so",
        "compare within the table; CPU time says what the work costs, wall time what it took there and then.",
        "",
        f"Processor: {facts['cpu']}, {facts['cores']} cores; PyTorch {torch.__version__}, {instructions}.",
        "",
        "| | wall, s | CPU, s | faster (wall) | faster (CPU) | mean difference, 1/255 | largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        away = (frames[name] - reference).abs() * 255
        lines.append(
            f"| {name} | {timing.wall:.2f} | {timing.cpu:.2f} | {first.wall / timing.wall:.2f} | "
            f"{first.cpu / timing.cpu:.2f} | {away.mean():.2g} | {away.max():.2g} |"
        )
    lines += [
        "",
        "bf16 is measured on processors with AVX-512; elsewhere it is emulated, many times slower than single",
        "precision (`--half` measures it all the same).",
        "",
        "`python bench/keypoint.py CHECKOUT` makes this file.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
