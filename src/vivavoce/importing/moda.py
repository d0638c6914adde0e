"""Published MoDA checkpoints (``net-200.pth``) -> our weights of the same network, strictly name by name.

Two conventions differ and are folded into the weights, exactly: the published network counts time from data to noise
(``sigma = 1 - t``) and predicts noise minus data. See :func:`folded`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import Checkpoint, find, matched, publish, read
from vivavoce.importing.moda_statistics import MEAN, STD
from vivavoce.motion.windows import NAME, SYSTEM
from vivavoce.nets.mmdit import TIME_SCALE, TIME_WIDTH, Config, MMDiT, sinusoid

FILES = ("net-200.pth", "net-200.safetensors", "moda.pth")
STATISTICS = "mean.pt"
PREFIX = "talking_head_dit"
NULL_AUDIO = "null_audio_feat"
# Training bookkeeping, and a null that the published model never uses.
LEFT_BEHIND = ("scheduler.sigmas", "null_motion_feat")
NULL_SEED = 42  # of the null audio where the checkpoint has none: the release draws it anew with this process seed
LAYERS = 12  # of the speech encoder

_STREAMS4 = ("xs", "au1", "au2", "au3")  # motion, audio, emotion, identity
_STREAMS2 = ("xs", "au")
_FIXED = {
    "final_layer.linear": "out",
    "final_layer.adaLN_modulation.1": "modulation",
    "emo_embedder.embedding_table": "emotion_in",
    "audio_embedder.norm": "audio_in.1",
    **{f"audio_embedder.proj{n + 1}": f"audio_in.0.{2 * n}" for n in range(3)},
    **{
        f"{theirs}_embedder.mlp.{n}": f"{ours}_in.{n}"
        for theirs, ours in (("motion", "motion"), ("identity", "identity"), ("time", "time"))
        for n in (0, 2)
    },
}


def _stream_names(streams: tuple[str, ...], audio: tuple[str, ...]) -> dict[str, str]:
    """Published names within a block of several streams -> ours. ``audio`` are suffixes of the streams after motion."""
    out: dict[str, str] = {}
    for n, stream in enumerate(streams):
        suffix = "" if n == 0 else audio[n - 1]
        word = "xs" if n == 0 else "audio"
        norms = ("xs_q_norm", "xs_k_norm") if n == 0 else (f"au_q_norm{suffix}", f"au_k_norm{suffix}")
        out |= {
            f"attn1.qkv_{stream}": f"streams.{n}.qkv",
            f"attn1.{norms[0]}.weight": f"streams.{n}.qk_norm.q",
            f"attn1.{norms[1]}.weight": f"streams.{n}.qk_norm.k",
            f"attn1.{'xs_proj' if n == 0 else f'au_proj{suffix}'}": f"streams.{n}.proj",
            f"{word}_mlp{suffix}.fc1": f"streams.{n}.mlp.0",
            f"{word}_mlp{suffix}.fc2": f"streams.{n}.mlp.2",
            f"adaLN_modulation_{word}{suffix}.1": f"streams.{n}.modulation",
        }
    return out


_BLOCKS = {
    "blocks4": ("four", _stream_names(_STREAMS4, ("1", "2", "3"))),
    "blocks2": ("two", _stream_names(_STREAMS2, ("",))),
    "blocks": (
        "one",
        {
            "attn1.xs_q_norm.weight": "qk_norm.q",
            "attn1.xs_k_norm.weight": "qk_norm.k",
            "qkv_xs": "enter",
            "linear2": "leave",
            "adaLN_modulation_xs.1": "modulation",
        },
    ),
}
_BLOCK = re.compile(r"(blocks[24]?)\.(\d+)\.(.+)")


def renamed(key: str) -> str:
    """Published name of a tensor of the transformer -> ours; unknown names stay as they are."""
    found = _BLOCK.fullmatch(key)
    if found is None:
        stem, _, leaf = key.rpartition(".")
        return f"{_FIXED[stem]}.{leaf}" if stem in _FIXED else key
    kind, place, rest = found.groups()
    ours, names = _BLOCKS[kind]
    if rest in names:
        return f"{ours}.{place}.{names[rest]}"
    stem, _, leaf = rest.rpartition(".")
    return f"{ours}.{place}.{names[stem]}.{leaf}" if stem in names else key


def configured(tensors: Mapping[str, Shaped[Tensor, "..."]], what: str) -> Config:
    """The sizes of the published network that ``tensors``, by published name, belong to.

    Raises:
        InputError: they lack what says the sizes, or are not a MoDA transformer.
    """
    try:
        width, joined = tensors["motion_embedder.mlp.0.weight"].shape
        return Config(
            motion=len(tensors["final_layer.linear.bias"]),
            audio=tensors["audio_embedder.proj1.weight"].shape[1],
            identity=tensors["identity_embedder.mlp.0.weight"].shape[1],
            emotions=len(tensors["emo_embedder.embedding_table.weight"]) - 1,
            width=width,
            heads=width // _head(tensors),
            four=_count(tensors, "blocks4"),
            two=_count(tensors, "blocks2"),
            one=_count(tensors, "blocks"),
            mlp_ratio=tensors["blocks.0.linear2.weight"].shape[1] / width - 1,
            past="channels" if joined == 2 * len(tensors["final_layer.linear.bias"]) else "tokens",
            repeat="frame",
            audio_hidden=2,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{what} is not a MoDA transformer: it has no usable {error}") from error


def _head(tensors: Mapping[str, Tensor]) -> int:
    return len(tensors["blocks.0.attn1.xs_q_norm.weight"])


def _count(tensors: Mapping[str, Tensor], kind: str) -> int:
    places = {int(found[2]) for key in tensors if (found := _BLOCK.fullmatch(key)) and found[1] == kind}
    return len(places)


def network(tensors: Mapping[str, Shaped[Tensor, "..."]], null: Float[Tensor, " c"], what: str) -> MMDiT:
    """Our network with the published weights ``tensors`` (names without the prefix) and null audio ``null``.

    Raises:
        InputError: naming what is missing, unknown or of the wrong shape.
    """
    config = configured(tensors, what)
    if config.past != "channels":
        raise InputError(f"{what} does not join the previous motion with the noisy one, as MoDA does")
    with torch.device("meta"):
        net = MMDiT(config)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items() if not key.startswith("no_")}
    ours = matched(tensors, shapes, what=what, rename=renamed)
    if config.audio % len(null):
        raise InputError(f"{what} hears {config.audio} features a frame, which null audio of {len(null)} cannot fill")
    given = {"no_identity": config.width, "no_past": config.motion, "no_audio": config.width}
    full = folded({key: value.float() for key, value in ours.items()})
    full |= {name: torch.zeros(size) for name, size in given.items()}
    net.load_state_dict(full, assign=True)
    net.eval().requires_grad_(False)
    # The release hides sound by features of noise, we by the token that stands for it.
    net.no_audio.copy_(net.audio_in(null.repeat(config.audio // len(null))[None])[0])
    return net


def folded(ours: Mapping[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
    """The same function of ``t = 1 - sigma`` that gives data minus noise.

    ``cos(w (T - T t))`` and the sine are linear in the cosine and sine of ``w T t``, so the first layer that reads
    them absorbs the change of time; the last layer changes sign.
    """
    out = dict(ours)
    full = sinusoid(torch.tensor([TIME_SCALE], dtype=torch.float32), TIME_WIDTH)[0].double()
    cos, sin = full.chunk(2)
    read_cos, read_sin = out["time_in.0.weight"].double().chunk(2, dim=1)
    turned = torch.cat([read_cos * cos + read_sin * sin, read_cos * sin - read_sin * cos], dim=1)
    out["time_in.0.weight"] = turned.float()
    out["out.weight"], out["out.bias"] = -out["out.weight"], -out["out.bias"]
    return out


def null_audio(found: Checkpoint, audio: int) -> tuple[Float[Tensor, " c"], str]:
    """What stands for hidden sound in each of the layers of ``audio`` features, and where it comes from.

    The release keeps it out of its parameters by mistake, so published files lack it and every run draws another.
    """
    if NULL_AUDIO in found.tensors:
        return found.tensors[NULL_AUDIO].float().flatten(), "the checkpoint's own"
    drawn = torch.randn(audio // LAYERS, generator=torch.Generator().manual_seed(NULL_SEED))
    return drawn, f"drawn from a normal distribution (seed {NULL_SEED}): the checkpoint has none"


def statistics(source: Path, size: int) -> tuple[dict[str, Float[Tensor, " d"]], str]:
    """Mean and deviation of every motion number, and where they come from: ``mean.pt`` if there is one.

    Raises:
        InputError: the file does not hold two rows of ``size`` numbers.
    """
    file = find(source, [STATISTICS]) if source.is_dir() else None
    if file is None:
        if size != len(MEAN):
            raise InputError(f"{source} needs a {STATISTICS} beside it: its motion has {size} numbers a frame")
        return {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}, "those of the release"
    found = {key: value.float().flatten() for key, value in read(file).tensors.items()}
    kept = matched(found, {"mean": (size,), "std": (size,)}, what=f"{file.name} (motion statistics)")
    return kept, f"`{file.name}`"


def convert(source: Path, out: Path) -> Path:
    """Read a published MoDA checkpoint under ``source`` and write ``out/moda.safetensors`` with its card.

    Args:
        source: the checkpoint, or a folder that has it somewhere within, and perhaps ``mean.pt`` beside.
        out: a folder, made if need be.

    Raises:
        InputError: there is no such checkpoint, or it is not what it should be, saying what is wrong.
    """
    file = source if source.is_file() else find(source, FILES)
    if file is None:
        raise InputError(f"{source} has no MoDA checkpoint (looked for {', '.join(FILES)} in it and its folders)")
    found = read(file)
    tensors = found.under(PREFIX) or dict(found.tensors)
    stray = [k for k in found.tensors if not k.startswith(f"{PREFIX}.") and k not in (*LEFT_BEHIND, NULL_AUDIO)]
    if found.under(PREFIX) and stray:
        raise InputError(f"{file.name} (MoDA) does not fit: unknown: {', '.join(sorted(stray)[:3])}")
    known = {key: value for key, value in tensors.items() if key not in (*LEFT_BEHIND, NULL_AUDIO)}
    what = f"{file.name} (MoDA)"
    null, whence = null_audio(found, configured(known, what).audio)
    net = network(known, null, what)
    numbers, origin = statistics(source, net.config.motion)
    weights = {f"net.{key}": value for key, value in net.state_dict().items()} | numbers
    card = _card(found, whence, origin, net)
    return publish(out, NAME, weights, card, system=SYSTEM, config=asdict(net.config))


def _card(found: Checkpoint, null: str, origin: str, net: MMDiT) -> str:
    count = sum(value.numel() for key, value in net.state_dict().items() if not key.startswith("no_"))
    return f"""# moda.safetensors

The motion transformer of MoDA (arXiv 2507.03256), imported.

| | |
|---|---|
| Source | `{found.file.name}`, SHA-256 `{found.sha256}` |
| Licence | that of the source: the public release names none, so ask its authors before you pass this file on |
| Parameters | {count:,} |
| Motion | {net.config.motion} numbers a frame, space `liveportrait-kp21/1`; mean and deviation: {origin} |
| Null audio | {null} |
| Changed | names; time counted from noise to data and velocity from noise to data, folded into two layers exactly |
| Left behind | {", ".join(LEFT_BEHIND)} |
"""
