"""How fast a system is on this machine: one run of the whole pipeline, timed stage by stage, and its memory.

Everything goes the way ``vivavoce animate`` goes: ``System.stream`` in a thread of its own, ``write_video`` in the
main one. The sound is made up here (syllables of hum and hiss with pauses), so that any length costs no file.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from vivavoce.errors import InputError
from vivavoce.media.read import read_source
from vivavoce.media.write import write_video
from vivavoce.motion.space import MotionSpace
from vivavoce.registry import load
from vivavoce.streams import Background
from vivavoce.system import AudioEncoder, Drive, Features, Frames, MotionGenerator, Portrait, Renderer, Source, System
from vivavoce.timeline import Clock, Pcm

T = TypeVar("T")
LONGER = 10  # times as much sound in the second memory measurement
WARM_UP = 2.0  # seconds of sound before the clock starts: compilers and caches fill up
PACKET = 0.04  # seconds of sound handed over at a time
STAGES = ("speech", "motion", "rendering", "encoding")


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured."""

    portrait: Path
    system: str = "moda"
    size: int = 512  # px, both sides of the head view that is drawn
    seconds: float = 60.0  # of sound
    device: str = "auto"
    weights: Path | None = None  # of systems that take any

    def load(self) -> System:
        """The system, built. Raises :class:`vivavoce.errors.InputError` for one that cannot be."""
        options = {} if self.weights is None else {"weights": self.weights}
        return load(self.system, size=self.size, crop=True, device=self.device, **options)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out. Times are wall-clock."""

    real_time_factor: float  # seconds of computing per second of video
    frames_per_second: float
    first_frame_seconds: float  # computing between the last sound the first frame needs and the first frame
    peak_memory_mb: float  # resident set of a process of its own, imports included (MiB)
    stages: dict[str, float]  # milliseconds per frame; they overlap: encoding has its own thread
    latency_frames: int  # of sound that must be there before the first frame, see System.latency
    latency_seconds: float
    peak_memory_longer_mb: float  # the same for LONGER times as much sound
    cpu_milliseconds_per_frame: float  # of all threads together
    prepare_seconds: float  # reading the portrait, once
    seconds: float
    frames: int
    size: tuple[int, int]  # px, width and height of the video
    system: str
    machine: dict[str, Any]


def measure(task: Task) -> Figures:
    """Run ``task`` in this process for the times and twice in new processes for the memory.

    Raises :class:`vivavoce.errors.InputError` for a portrait that cannot be read or an unknown system.
    """
    system = task.load()
    source = read_source(task.portrait, system.clock.fps)
    began = time.perf_counter()
    with torch.inference_mode():
        portrait = system.renderer.portrait(source)
    prepared = time.perf_counter() - began
    _run(system, portrait, WARM_UP, Stopwatch())
    watch = Stopwatch()
    run = _run(system, portrait, task.seconds, watch)
    memory = [peak_memory(replace(task, seconds=seconds)) for seconds in (task.seconds, LONGER * task.seconds)]
    return Figures(
        real_time_factor=round(run.took * float(system.clock.fps) / run.frames, 4),
        frames_per_second=round(run.frames / run.took, 2),
        first_frame_seconds=round(_first_frame(system, portrait), 4),
        peak_memory_mb=memory[0],
        stages={name: round(1000 * watch.spent[name] / run.frames, 3) for name in STAGES},
        latency_frames=system.latency,
        latency_seconds=float(system.latency / system.clock.fps),
        peak_memory_longer_mb=memory[1],
        cpu_milliseconds_per_frame=round(1000 * run.cpu / run.frames, 3),
        prepare_seconds=round(prepared, 3),
        seconds=task.seconds,
        frames=run.frames,
        size=run.size,
        system=system.name,
        machine=machine(),
    )


def report(figures: Figures) -> dict[str, Any]:
    """Figures as plain values, for JSON."""
    return asdict(figures)


def lines(figures: Figures) -> str:
    """Figures for people."""
    stages = ", ".join(f"{name} {value:.1f}" for name, value in figures.stages.items())
    facts = figures.machine
    width, height = figures.size
    return "\n".join(
        (
            f"{figures.system}, {figures.frames} frames of {width}x{height} on {facts['cpu']}, {facts['cores']} cores",
            f"  {figures.frames_per_second:.1f} frames per second, real-time factor {figures.real_time_factor:.3f}",
            f"  ms per frame: {stages}; CPU {figures.cpu_milliseconds_per_frame:.1f}",
            f"  first frame: {figures.latency_seconds:.2f} s of sound + {figures.first_frame_seconds:.3f} s of work",
            f"  peak memory: {figures.peak_memory_mb:.0f} MiB for {figures.seconds:g} s of sound, "
            f"{figures.peak_memory_longer_mb:.0f} MiB for {LONGER * figures.seconds:g} s",
        )
    )


@dataclass(slots=True)
class Stopwatch:
    """Time spent in each stage itself, without what it waits for from the stage before."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inner: float = 0.0  # time spent below the stage that is running

    def watch(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` on and charge the time they take to ``name``, what is watched inside them excepted."""
        stream = iter(items)
        while True:
            outer, self.inner = self.inner, 0.0
            began = time.perf_counter()
            try:
                item = next(stream)
            except StopIteration:
                return
            finally:
                took = time.perf_counter() - began
                self.spent[name] += took - self.inner
                self.inner = outer + took
            yield item


@dataclass(frozen=True, slots=True)
class _Ear:
    """An audio encoder under a stopwatch."""

    of: AudioEncoder
    watch: Stopwatch
    dim: int
    hop: int
    lookahead: int

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]:
        return self.watch.watch("speech", self.of.features(clock, self.watch.watch("sound", sound)))


@dataclass(frozen=True, slots=True)
class _Mover:
    """A generator under a stopwatch."""

    of: MotionGenerator
    watch: Stopwatch
    space: MotionSpace
    audio_dim: int
    hop: int
    lookahead: int

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        return self.watch.watch("motion", self.of.drives(portrait, features, seed=seed))


@dataclass(frozen=True, slots=True)
class _Painter:
    """A renderer under a stopwatch."""

    of: Renderer
    watch: Stopwatch
    space: MotionSpace

    def portrait(self, source: Source) -> Portrait:
        return self.of.portrait(source)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        return self.watch.watch("rendering", self.of.frames(portrait, drives))


def watched(system: System, watch: Stopwatch) -> System:
    """The same system with every stage under ``watch``."""
    ear, mover, painter = system.audio_encoder, system.generator, system.renderer
    return replace(
        system,
        audio_encoder=_Ear(ear, watch, ear.dim, ear.hop, ear.lookahead),
        generator=_Mover(mover, watch, mover.space, mover.audio_dim, mover.hop, mover.lookahead),
        renderer=_Painter(painter, watch, painter.space),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    frames: int
    took: float  # seconds, wall-clock
    cpu: float  # seconds, all threads
    size: tuple[int, int]


def _run(system: System, portrait: Portrait, seconds: float, watch: Stopwatch) -> _Run:
    """Make a video of ``seconds`` in a temporary folder, the way the command line does."""
    encoder = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        stream = watched(system, watch).stream(portrait, voice(seconds, system.clock))
        with closing(Background(stream)) as clips:
            waited = encoder.watch("waiting", clips)
            written = write_video(Path(folder) / "bench.mp4", waited, system.clock)
        took, busy = time.perf_counter() - began, time.process_time() - cpu
    watch.spent["encoding"] = took - encoder.spent["waiting"]
    return _Run(written.frames, took, busy, (written.width, written.height))


def _first_frame(system: System, portrait: Portrait) -> float:
    """Seconds from the moment the sound that the first frame needs is there until the frame is."""
    asked = 0.0

    def sound() -> Iterator[Pcm]:
        nonlocal asked
        for packet in voice(float((system.latency + 10) / system.clock.fps), system.clock):
            asked = time.perf_counter()
            yield packet

    clips = system.stream(portrait, sound())
    next(clips)
    return time.perf_counter() - asked


def voice(seconds: float, clock: Clock) -> Iterator[Pcm]:
    """Something like speech: hummed syllables with hissed onsets, four a second, and a pause every three seconds."""
    rate, total = clock.sample_rate, round(seconds * clock.sample_rate)
    size = round(PACKET * rate)
    hiss = torch.Generator().manual_seed(0)
    for start in range(0, total, size):
        count = min(size, total - start)
        at = (torch.arange(start, start + count, dtype=torch.float64) / rate) % 60.0
        syllable = torch.sin(math.pi * 4 * at).abs() * ((at % 3.0) < 2.4)
        hum = sum(torch.sin(2 * math.pi * 125 * n * at) / n for n in range(1, 20))
        noise = torch.randn(count, generator=hiss, dtype=torch.float64) * ((at * 4) % 1.0 < 0.2)
        yield (syllable * (0.12 * hum + 0.05 * noise)).float()


def peak_memory(task: Task) -> float:
    """Peak resident memory in MiB of a new process that makes this video and nothing else."""
    words = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(task).items()}
    made = subprocess.run(  # noqa: S603  our own interpreter and module
        [sys.executable, "-m", "vivavoce.evaluate.speed", json.dumps(words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        last = (made.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"the process whose memory was measured ended with {made.returncode}: {last}")
    return float(json.loads(made.stdout.splitlines()[-1]))


def peak_here() -> float:
    """Peak resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also counts the parent a process was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 1024, 1)
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def machine() -> dict[str, Any]:
    """Facts about this machine that the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "cores": cores,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    names = listed.read_text().splitlines() if listed.exists() else []
    found = next((line.partition(":")[2].strip() for line in names if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def demo_portrait() -> Path:
    """The demo photo of a checkout. Raises :class:`vivavoce.errors.InputError` in an installation without one."""
    places = (Path.cwd(), Path(__file__).parents[3])
    found = next((p for place in places if (p := place / "assets" / "demo_portrait.jpg").is_file()), None)
    if found is None:
        raise InputError("there is no demo portrait here: give a photo of a person with --portrait")
    return found


def _child(words: str) -> None:
    """Make the video of a :class:`Task` given as JSON and print the peak memory it took."""
    given = json.loads(words)
    paths = {name: Path(given[name]) for name in ("portrait", "weights") if given[name] is not None}
    task = Task(**{**given, **paths})
    system = task.load()
    with torch.inference_mode():
        portrait = system.renderer.portrait(read_source(task.portrait, system.clock.fps))
    _run(system, portrait, task.seconds, Stopwatch())
    sys.stdout.write(f"{peak_here()}\n")


if __name__ == "__main__":
    _child(sys.argv[1])
