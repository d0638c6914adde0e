"""What a system is made of, without running it: networks, parameters, operations per frame, latency.

Networks are built without memory behind them (PyTorch's ``meta`` device), so published sizes need no weights and no
time. Operations are those of convolutions and matrix products, 2 per multiplication and addition, of the networks as
they are published; what a backend saves on a certain machine is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vivavoce import weights as packaged
from vivavoce.errors import InputError
from vivavoce.evaluate.counting import GIGA, below, nothing_in, operations, parameters
from vivavoce.importing.speech import CONFIG, FOLDER
from vivavoce.motion.chunks import STEPS, ChunkGenerator, Hush, suited
from vivavoce.motion.codes import CodeModel
from vivavoce.motion.conditions import Conditions
from vivavoce.motion.generate import FlowGenerator
from vivavoce.motion.surrounded import Surrounded
from vivavoce.motion.windows import NAME as MOTION
from vivavoce.motion.windows import KeypointFlow, WindowGenerator
from vivavoce.nets.dit import NAMES, Given
from vivavoce.nets.dit import Config as CodeConfig
from vivavoce.nets.lia import Lia, LiaConfig
from vivavoce.nets.liveportrait import MADE_BY, PICTURE, Networks, NetworksConfig
from vivavoce.nets.liveportrait import NAME as NETWORKS
from vivavoce.nets.mmdit import Config, MMDiT, full
from vivavoce.render.implicit import ImplicitRenderer
from vivavoce.render.keypoint import KeypointRenderer
from vivavoce.render.latent import LatentRenderer
from vivavoce.render.texture import TextureRenderer
from vivavoce.sampling.samplers import uniform
from vivavoce.speech.encoder import PhoneEncoder, channel
from vivavoce.speech.pretrained import built, described
from vivavoce.speech.transformer import EDGE, PER_FRAME, SpeechTransformer, TransformerEncoder
from vivavoce.system import System
from vivavoce.systems import difftalk, ifmdm, liveportrait, moda, tgdm
from vivavoce.timeline import Clock
from vivavoce.weights.systems import weight_file

IMPLICIT = LiaConfig(size=512, bounded=True, groups=4, refine=512, fold=8)  # the paper's, its refine block folded
HUBERT = {"model_type": "hubert"}  # its defaults are the base model, which MoDA was trained with
NULLS = "no_"  # what stands for a condition that is not given: the published network keeps it elsewhere


@dataclass(frozen=True, slots=True)
class Part:
    """One network, or a part of one, and how often it runs."""

    name: str
    parameters: int
    gflop: float  # 10^9 operations of one call
    calls: int = 1  # in ``frames`` frames
    frames: int | None = 1  # ``None``: once a portrait
    again: bool = False  # its parameters are those of another part

    @property
    def per_frame(self) -> float:
        """10^9 operations per frame of video; what is done once a portrait counts nothing."""
        return self.gflop * self.calls / self.frames if self.frames else 0.0

    @property
    def often(self) -> str:
        """How often it runs, in words."""
        if self.frames is None:
            return f"{self.calls} a portrait"
        return f"{self.calls} a frame" if self.frames == 1 else f"{self.calls} in {self.frames} frames"


@dataclass(frozen=True, slots=True)
class Description:
    """A whole system."""

    system: str
    latency: int  # frames of sound that must be in before the first frame is out, computing aside
    fps: float
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Of all networks."""
        return sum(part.parameters for part in self.parts if not part.again)

    @property
    def gflop_per_frame(self) -> float:
        """Of all networks."""
        return sum(part.per_frame for part in self.parts)

    def report(self) -> dict[str, Any]:
        """For JSON."""
        parts = [asdict(part) | {"gflop_per_frame": part.per_frame} for part in self.parts]
        whole = {"parameters": self.parameters, "gflop_per_frame": self.gflop_per_frame}
        return {"system": self.system, "latency_frames": self.latency, "fps": self.fps, **whole, "parts": parts}

    def lines(self) -> str:
        """For people."""
        head = ("network", "parameters", "GFLOP a call", "calls", "GFLOP a frame")
        rows = [
            (p.name, f"{p.parameters:,}", f"{p.gflop:,.3f}", p.often, f"{p.per_frame:,.3f}" if p.frames else "-")
            for p in self.parts
        ]
        rows.append(("all", f"{self.parameters:,}", "", "", f"{self.gflop_per_frame:,.3f}"))
        wide = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
        table = [
            "  ".join(
                cell.ljust(w) if n in (0, 3) else cell.rjust(w)
                for n, (cell, w) in enumerate(zip(row, wide, strict=True))
            )
            for row in [head, *rows]
        ]
        latency = f"latency: {self.latency} frames ({self.latency / self.fps:.2f} s) of sound before the first frame"
        return "\n".join([self.system, *(line.rstrip() for line in table), latency])


def describe(name: str, weights: Path | None = None) -> Description:
    """System ``name`` at its published size, or at the size of what ``vivavoce import`` wrote to ``weights``.

    Raises:
        InputError: there is no description of that system, it takes no weights, or those are not usable.
    """
    if name not in SYSTEMS:
        raise InputError(f"there is no description of a system called {name!r} (there are: {', '.join(SYSTEMS)})")
    with torch.inference_mode():
        system = SYSTEMS[name](weights)
        listed = (system.audio_encoder, system.generator, system.renderer)
        parts = tuple(part for component in listed for part in parts_of(component))
    return Description(name, system.latency, float(system.clock.fps), parts)


@singledispatch
def parts_of(component: object) -> Iterator[Part]:
    """Networks of an encoder, a generator or a renderer; none in those that are all formulas."""
    del component
    return iter(())


@parts_of.register
def _(encoder: PhoneEncoder) -> Iterator[Part]:
    network = nothing_in(encoder.network)
    rows = 4 * encoder.hop  # mel rows of a hop, 100 a second

    def heard(count: int, memory: Any) -> Any:
        return network(torch.empty(1, count, 64, device="meta"), memory)[2]

    memory = heard(rows + network.ahead, network.start())
    yield Part("phone encoder", parameters(network), operations(lambda: heard(rows, memory)), 1, encoder.hop)


@parts_of.register
def _(encoder: TransformerEncoder) -> Iterator[Part]:
    model, hop = encoder.network.model, encoder.hop
    layers = operations(lambda: model.feature_extractor(torch.empty(1, hop * PER_FRAME + 2 * EDGE, device="meta")))
    window = torch.empty(encoder.before + hop + encoder.after, model.config.conv_dim[-1], device="meta")
    heads = parameters(model.feature_extractor)
    yield Part("speech convolutions", heads, layers, 1, hop)
    hidden = operations(lambda: encoder.network.hidden(window))
    yield Part("speech transformer", parameters(model, without="masked_spec_embed") - heads, hidden, 1, hop)


@parts_of.register
def _(generator: FlowGenerator) -> Iterator[Part]:
    flow: Any = generator.flow
    shown = generator.past + generator.hop + generator.lookahead
    rows = generator.hop + generator.lookahead
    yield from _transformer(flow.net, rows, shown, generator.past, generator)


@parts_of.register
def _(generator: WindowGenerator) -> Iterator[Part]:
    rows = generator.hop + generator.overlap
    yield from _transformer(generator.flow.net, rows, rows, 1, generator)


@parts_of.register
def _(renderer: KeypointRenderer) -> Iterator[Part]:
    net = renderer.networks
    picture = torch.empty(1, 3, PICTURE, PICTURE, device="meta")
    points = torch.empty(1, net.config.warping.keypoints, 3, device="meta")
    volume, flat = net.appearance(picture), points.flatten(1)
    seen = net.warping.seen(volume, points)
    features = net.warping(volume, points, points, seen).features
    drawn: list[tuple[str, nn.Module, Callable[[], Any], int, int | None]] = [
        ("appearance extractor", net.appearance, lambda: net.appearance(picture), 1, None),
        ("motion extractor", net.motion, lambda: net.motion(picture), 1, None),
        ("warping", net.warping, lambda: net.warping(volume, points, points, seen), 1, 1),
        ("decoder", net.decoder, lambda: net.decoder(features), 1, 1),
        ("stitching", net.stitching, lambda: net.stitching(torch.cat([flat, flat], 1)), int(renderer.stitch), 1),
        ("eye retargeting", net.eyes, lambda: net.eyes(torch.cat([flat, flat[:, :3]], 1)), 0, 1),
        ("lip retargeting", net.lips, lambda: net.lips(torch.cat([flat, flat[:, :2]], 1)), int(renderer.close_lips), 1),
    ]
    for name, module, call, calls, frames in drawn:
        yield Part(name, parameters(module), operations(call), calls, frames)


@parts_of.register
def _(generator: liveportrait.TrackedKeypoints) -> Iterator[Part]:
    motion = generator.renderer.networks.motion
    picture = torch.empty(1, 3, PICTURE, PICTURE, device="meta")
    count = parameters(motion)
    yield Part("motion extractor, driver", count, operations(lambda: motion(picture)), 1, 1, again=True)


@parts_of.register
def _(generator: ChunkGenerator) -> Iterator[Part]:
    net, config = nothing_in(generator.model.net), generator.model.config
    told = {"audio": config.tokens * config.audio, "hint": config.motion, "mean": config.motion, "std": config.motion}
    wide = {name: torch.empty(1, width, device="meta") for name, width in told.items()}
    audio = wide.pop("audio").expand(1, config.length, -1)
    present = torch.ones(1, len(NAMES), dtype=torch.bool, device="meta")
    given = Given(audio, wide["hint"], wide["mean"], wide["std"], present)
    embedded = net.embed(given)
    noisy, time = torch.empty(1, config.length, config.motion, device="meta"), torch.empty(1, device="meta")
    once = sum(
        parameters(module)
        for module in (net.hint_in, net.statistics_in, net.audio_in, net.heard, net.nulls)
        if module is not None
    )
    passes, steps = 1 + (generator.guidance != 1), len(generator.times or ()) - 1
    yield Part("motion: conditions in", once, operations(lambda: net.embed(given)), passes, generator.hop)
    work = operations(lambda: net.predicted(noisy, time, embedded))
    yield Part("motion: transformer", parameters(net) - once, work, passes * steps, generator.hop)


@parts_of.register
def _(renderer: ImplicitRenderer) -> Iterator[Part]:
    net = renderer.networks
    picture = torch.empty(1, 3, renderer.side, renderer.side, device="meta")
    appearance, code = net.seen(picture)
    latent = appearance.latent + net.directions(code)
    yield Part("encoder", parameters(net.encoder), operations(lambda: net.seen(picture)), 1, None)
    yield Part("directions", parameters(net.directions), operations(lambda: net.directions(code)))
    synthesis = operations(lambda: net.synthesis(latent, appearance.features))
    yield Part("synthesis", parameters(net.synthesis), synthesis)
    if net.config.refine:
        yield Part("refine block", parameters(net.refine), operations(lambda: net.refine(picture)))


@parts_of.register
def _(generator: Surrounded) -> Iterator[Part]:
    yield from parts_of(generator.generator)


@parts_of.register
def _(renderer: LatentRenderer) -> Iterator[Part]:
    net = nothing_in(renderer.networks)
    stage, talk, (rows, columns) = net.first_stage, net.config.conditions, net.config.pixels
    picture = torch.empty(1, 3, rows.stop - rows.start, columns.stop - columns.start, device="meta")
    speech = torch.empty(1, talk.frames, talk.window, talk.features, device="meta")
    places = torch.empty(1, talk.landmarks, 2, device="meta") if talk.landmarks else None
    latent, context = stage.encode(picture), net.conditions(speech, places)
    given, time = torch.cat([latent, latent], 1), torch.empty(1, device="meta")
    encoder = parameters(stage.encoder) + parameters(stage.quant_conv)
    decoder = parameters(stage) - encoder
    yield Part("first stage: to latents", encoder, operations(lambda: stage.encode(picture)), 2)
    yield Part("first stage: to pictures", decoder, operations(lambda: stage.decode(latent)))
    yield Part("speech and landmarks", parameters(net.conditions), operations(lambda: net.conditions(speech, places)))
    work = operations(lambda: net.unet(latent, time, given, context))
    yield Part("denoiser", parameters(net.unet), work, renderer.steps)


@parts_of.register
def _(renderer: TextureRenderer) -> Iterator[Part]:
    net = nothing_in(renderer.networks)
    stage, config, painter = net.first_stage, net.config.painter, net.painter
    rows, columns = net.config.inner
    picture = torch.empty(1, 3, rows, columns, device="meta")
    source = torch.empty(1, config.source, rows, columns, device="meta")
    latent, textures = net.encode(picture), painter.textures(source)
    given = torch.empty(1, config.given, *latent.shape[2:], device="meta")
    face, time = torch.empty(1, config.coefficients, device="meta"), torch.empty(1, device="meta")
    once = parameters(painter.textures)
    yield Part("texture encoder", once, operations(lambda: painter.textures(source)), 1, None)
    if stage is not None:
        encoder = parameters(stage.encoder) + parameters(stage.quant_conv)
        decoder = parameters(stage) - encoder
        yield Part("first stage: to latents", encoder, operations(lambda: stage.encode(picture)))
        yield Part("first stage: to pictures", decoder, operations(lambda: stage.decode(latent)), 2)
    work = operations(lambda: painter(latent, time, given, face, textures))
    calls = renderer.steps * (1 + (renderer.guidance != 1))
    yield Part("painter", parameters(painter) - once, work, calls)


def _transformer(
    network: MMDiT, rows: int, heard: int, past: int, generator: FlowGenerator | WindowGenerator
) -> Iterator[Part]:
    """The motion transformer, part by part; the conditions are embedded once a window, the rest at every step."""
    net, config = nothing_in(network), network.config
    apart = {
        scale
        for name, scale in generator.guidance
        if scale != 1 and (name != "emotion" or generator.emotion is not None)
    }
    passes, steps = 1 + len(apart), len(generator.times) - 1
    sizes = ((1, heard, config.audio), (1, past, config.motion), (1, config.identity), (1, config.emotions))
    audio, shown, identity, emotion = (torch.empty(*size, device="meta") for size in sizes)
    given = Conditions(audio, shown, identity, emotion, torch.ones(1, 4, dtype=torch.bool, device="meta"))
    noisy, time = torch.empty(1, rows, config.motion, device="meta"), torch.empty(1, device="meta")
    with FlopCounterMode(display=False) as counted:
        net(noisy, time, given)
    found = {name: sum(flops.values()) for name, flops in counted.get_flop_counts().items()}
    named = {
        "sound in": ("audio_in",),
        "portrait in": ("identity_in",),
        "emotion in": ("emotion_in",),
        "motion in": ("motion_in",),
        "time in": ("time_in",),
        "blocks of four streams": ("four",),
        "blocks of two streams": ("two",),
        "blocks of one stream": ("one",),
        "motion out": ("norm", "modulation", "out"),
    }
    for name, modules in named.items():
        count = sum(parameters(getattr(net, module)) for module in modules)
        work = sum(below(found, type(net).__name__, module) for module in modules) / GIGA
        once = modules[0] in ("audio_in", "identity_in", "emotion_in")
        yield Part(f"motion: {name}", count, work, passes * (1 if once else steps), generator.hop)
    others = [value for key, value in net.named_parameters(recurse=False) if key.startswith(NULLS) or key == "shown"]
    yield Part("motion: what is not given", sum(value.numel() for value in others), 0.0, passes, generator.hop)


def _compact(weights: Path | None) -> System:
    if weights is not None:
        raise InputError("moda takes no weights: it comes with its own")
    return moda.assemble()


def _published(weights: Path | None) -> System:
    file = None if weights is None else weights / f"{MOTION}.safetensors"
    config = full() if file is None else _read(file, lambda header: Config(**header["config"]))
    with torch.device("meta"):
        flow = KeypointFlow(config).eval().requires_grad_(False)
    folder = None if weights is None else weights / FOLDER
    sizes = HUBERT if folder is None or not folder.is_dir() else described(folder / CONFIG)
    encoder: Any = TransformerEncoder(SpeechTransformer(built(sizes, folder or Path())).eval().requires_grad_(False))
    if config.audio == (phones := PhoneEncoder.pretrained()).dim:
        encoder = phones
    try:
        return System("moda-liveportrait", Clock(), encoder, WindowGenerator(flow), _renderer(weights))
    except ValueError as error:
        raise InputError(str(error)) from error


def _followed(weights: Path | None) -> System:
    renderer = _renderer(weights)
    generator = liveportrait.TrackedKeypoints(Path(), renderer, liveportrait.Follow())
    return System("liveportrait", Clock(), liveportrait.Deaf(), generator, renderer)


def _implicit(weights: Path | None) -> System:
    encoder = PhoneEncoder.pretrained()
    lia, config, draft = IMPLICIT, CodeConfig(audio=encoder.dim, tokens=1), False
    if weights is not None:
        lia = _read(weights / f"{ifmdm.RENDERER}.safetensors", lambda header: LiaConfig(**header["config"]))
        config, draft = _read(
            weights / f"{ifmdm.NAME}.safetensors", lambda header: (CodeConfig(**header["config"]), header["draft"])
        )
    with torch.device("meta"):
        renderer = ImplicitRenderer(Lia(lia).requires_grad_(False))
        model = CodeModel(config, draft=draft)
    # The schedule's times follow from numbers that nothing in memory has.
    generator = ChunkGenerator(model, times=tuple(uniform(STEPS)), quiet=Hush(channel("speech")), **suited(model))
    try:
        return System(ifmdm.NAME, Clock(), encoder, generator, renderer)
    except ValueError as error:
        raise InputError(str(error)) from error


def _renderer(weights: Path | None) -> KeypointRenderer:
    sizes = NetworksConfig()
    if weights is not None:
        sizes = _read(weight_file(weights, NETWORKS, MADE_BY), lambda header: NetworksConfig.of(header["config"]))
    with torch.device("meta"):
        return KeypointRenderer(Networks(sizes).eval().requires_grad_(False))


def _read(file: Path, make: Callable[[dict[str, Any]], Any]) -> Any:
    try:
        return make(packaged.metadata(file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} does not say what its networks look like: {error}") from error


SYSTEMS: dict[str, Callable[[Path | None], System]] = {
    "moda": _compact,
    "moda-liveportrait": _published,
    "liveportrait": _followed,
    "if-mdm": _implicit,
    "difftalk": lambda weights: difftalk.assemble(weights=weights),
    "tgdm": lambda weights: tgdm.assemble(weights=weights),
}
