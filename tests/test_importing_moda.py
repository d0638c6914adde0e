"""Parity with the published MoDA transformer; tests/golden/moda_transformer.safetensors was recorded from it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden import weights as golden
from safetensors.torch import load_file

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.importing import moda
from vivavoce.motion.conditions import Conditions
from vivavoce.nets.mmdit import MMDiT, full

RECORDED = load_file(Path(__file__).parent / "golden" / "moda_transformer.safetensors")
SIZES = {"toy": (128, 2, 16), "full": (768, 12, 768)}  # width, heads, channels of a speech layer


def published_shapes(width: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published checkpoint, written out from its layout (408 tensors)."""
    w, h = width, 4 * width
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    for name, into in (("motion", 140), ("identity", 63), ("time", 256)):
        linear(f"{name}_embedder.mlp.0", w, into)
        linear(f"{name}_embedder.mlp.2", w, w)
    for n, into in ((1, 12 * channels), (2, w), (3, w)):
        linear(f"audio_embedder.proj{n}", w, into)
    shapes["audio_embedder.norm.weight"] = (w,)
    shapes["emo_embedder.embedding_table.weight"] = (9, w)
    for kind, count, others in (("blocks4", 3, ("1", "2", "3")), ("blocks2", 6, ("",))):
        for n in range(count):
            at = f"{kind}.{n}"
            streams = [("xs", "xs", "xs_q_norm", "xs_k_norm", "xs_proj")]
            streams += [(f"au{s}", f"audio{s}", f"au_q_norm{s}", f"au_k_norm{s}", f"au_proj{s}") for s in others]
            for qkv, word, q, k, proj in streams:
                linear(f"{at}.attn1.qkv_{qkv}", 3 * w, w)
                linear(f"{at}.attn1.{proj}", w, w)
                shapes[f"{at}.attn1.{q}.weight"] = shapes[f"{at}.attn1.{k}.weight"] = (64,)
                stem = "xs_mlp" if word == "xs" else f"audio_mlp{word.removeprefix('audio')}"
                linear(f"{at}.{stem}.fc1", h, w)
                linear(f"{at}.{stem}.fc2", w, h)
                linear(f"{at}.adaLN_modulation_{word}.1", 6 * w, w)
    for n in range(12):
        shapes[f"blocks.{n}.attn1.xs_q_norm.weight"] = shapes[f"blocks.{n}.attn1.xs_k_norm.weight"] = (64,)
        linear(f"blocks.{n}.qkv_xs", 3 * w + h, w)
        linear(f"blocks.{n}.linear2", w, w + h)
        linear(f"blocks.{n}.adaLN_modulation_xs.1", 3 * w, w)
    linear("final_layer.linear", 70, w)
    linear("final_layer.adaLN_modulation.1", 2 * w, w)
    return shapes


def published(size: str) -> dict[str, torch.Tensor]:
    width, _, channels = SIZES[size]
    return golden.weights(5, published_shapes(width, channels))


def inputs(size: str, emotion: int) -> tuple[torch.Tensor, Conditions]:
    channels = SIZES[size][2]
    asked = torch.nn.functional.one_hot(torch.tensor([emotion]), 9)[:, :8].float()
    conditions = Conditions(
        golden.normal(6, "audio", (1, 80, 1, 12, channels)).flatten(2),
        golden.normal(6, "past", (1, 1, 70)),
        golden.normal(6, "kp", (1, 1, 63), 0.3)[:, 0],
        asked,
        torch.tensor([[True, True, True, emotion < 8]]),
    )
    return golden.normal(6, "x", (1, 80, 70)), conditions


@pytest.mark.parametrize("size", SIZES)
def test_the_network_gives_what_the_published_one_gives(size):
    net = moda.network(published(size), golden.normal(6, "null", (SIZES[size][2],)), "checkpoint")
    for emotion, timestep in ((3, 1000.0), (8, 445.0)):
        x, conditions = inputs(size, emotion)
        velocity = net(x, torch.tensor([1 - timestep / 1000]), conditions)[0]
        theirs = RECORDED[f"{size}.{emotion}"]  # noise minus data
        assert (velocity + theirs).norm() / theirs.norm() < 1e-4


def test_the_full_size_is_the_published_one():
    assert len(published_shapes(768, 768)) == 408
    count = sum(torch.Size(shape).numel() for shape in published_shapes(768, 768).values())
    assert count == 372_983_878
    with torch.device("meta"):
        net = MMDiT(full())
    nulls = sum(value.numel() for key, value in net.named_parameters() if key.startswith("no_"))
    assert sum(p.numel() for p in net.parameters()) - nulls == count


def test_hidden_sound_is_the_releases_null_feature():
    null = golden.normal(6, "null", (16,))
    net = moda.network(published("toy"), null, "checkpoint")
    x, conditions = inputs("toy", 3)
    t = torch.tensor([0.3])
    said = replace(conditions, audio=null.repeat(12).expand(1, 80, -1))
    torch.testing.assert_close(net(x, t, conditions.hide("audio")), net(x, t, said), rtol=1e-4, atol=1e-5)


def write(folder: Path, tensors: dict, name: str = "moda/net-200.pth") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, file)
    return folder


def wrapped(tensors: dict) -> dict:
    return {"model": {f"module.talking_head_dit.{k}": v for k, v in tensors.items()}}


def test_a_checkpoint_becomes_weights_and_a_card(tmp_path):
    tensors = {f"talking_head_dit.{k}": v for k, v in published("toy").items()}
    write(tmp_path / "in", {**tensors, "scheduler.sigmas": torch.ones(1000)})
    file = moda.convert(tmp_path / "in", tmp_path / "out")
    header = weights.metadata(file)
    assert header["config"]["width"] == 128
    card = file.with_suffix(".md").read_text()
    assert "SHA-256" in card
    assert "10,304,326" in card
    stored = weights.read(file)[0]
    assert stored["mean"].shape == stored["std"].shape == (70,)
    assert stored["mean"][63] == pytest.approx(1.28646)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t.pop("blocks.3.linear2.weight") is None, "missing: one.3.leave.weight"),
        (lambda t: t.update({"blocks.0.extra.weight": torch.ones(2)}), "unknown: blocks.0.extra.weight"),
        (lambda t: t.update({"final_layer.adaLN_modulation.1.bias": torch.ones(3)}), "wrong shape"),
        (lambda t: t.update({"time_embedder.mlp.0.bias": torch.full((128,), torch.nan)}), "not finite"),
        (lambda t: t.pop("motion_embedder.mlp.0.weight") is None, "not a MoDA transformer"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, spoil, says):
    tensors = published("toy")
    spoil(tensors)
    write(tmp_path / "in", {f"talking_head_dit.{k}": v for k, v in tensors.items()})
    with pytest.raises(InputError, match=says):
        moda.convert(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no MoDA checkpoint .*net-200\.pth"):
        moda.convert(tmp_path, tmp_path / "out")
