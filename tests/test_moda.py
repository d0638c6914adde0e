import pytest
import torch

from vivavoce.emotion.labels import probabilities
from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes.moda import moda_toy
from vivavoce.system import Features, Portrait
from vivavoce.systems import moda
from vivavoce.timeline import Span


def test_unknown_emotion_device_and_backend_name_what_exists():
    with pytest.raises(InputError, match=r"no emotion that is understood in .hrmpf."):
        moda.assemble(emotion="hrmpf")
    with pytest.raises(InputError, match="no device 'tpu'; there are auto, cpu, cuda, mps"):
        moda.assemble(device="tpu")
    with pytest.raises(InputError, match="no backend 'fast'; it has auto, torch"):
        moda.assemble(backend="fast")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_this_machine_lacks_is_refused():
    with pytest.raises(InputError, match="this machine has no cuda device that torch can use; it has auto, cpu"):
        moda.found_device("cuda")


def test_lips_start_from_less_noise_than_the_rest():
    flow = moda_toy().task().flow
    made = moda.generator(flow, speech=3)
    noise = torch.randn(4000, FACE_MESH.dim, generator=torch.Generator().manual_seed(0))
    assert made.spread is not None
    shaped, expression = noise @ made.spread, FACE_MESH.slice("expression")
    read = flow.std[expression] * lips.opening(FaceModel.pretrained())
    share = float((shaped[:, expression] @ read).std() / (noise[:, expression] @ read).std())
    assert share == pytest.approx(moda.LIP_NOISE, abs=0.1)
    for name, more in (("rotation", moda.POSE_NOISE), ("eyelids", moda.LID_NOISE), ("gaze", 1.0)):
        at = FACE_MESH.slice(name)
        torch.testing.assert_close(shaped[:, at], more * noise[:, at])


def test_at_most_eight_calls_of_the_network_per_window():
    flow, calls = moda_toy().task().flow.eval(), []
    flow.net.register_forward_hook(lambda *_: calls.append(1))
    emotion = probabilities("anger")
    made = moda.generator(flow, speech=3, emotion=emotion)
    portrait = Portrait(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.zeros(1, FACE_MESH.dim), {})
    heard = [Features(Span(0, made.hop), torch.rand(made.hop, flow.audio_dim))]
    assert sum(len(d.motion.span) for d in made.drives(portrait, heard, seed=0)) == made.hop
    assert len(calls) <= 8


def test_the_shipped_generator_keeps_its_promises():
    """Six tenths of a second of look-ahead, lips that move with speech and rest without, and a head that stays."""
    from vivavoce.motion.flow import load
    from vivavoce.speech.encoder import CHANNELS, LOOKAHEAD, channel

    flow = load("moda")
    assert flow.audio_dim == len(CHANNELS)
    closed = (channel("closed first"), channel("closed second"))
    made = moda.generator(flow, speech=channel("speech"), closed=closed)
    assert made.hop + made.lookahead + LOOKAHEAD <= 15
    rng = torch.Generator().manual_seed(0)
    audio = flow.audio_mean + flow.audio_std * torch.randn(200, flow.audio_dim, generator=rng)
    audio[:, channel("speech")] = (torch.arange(200) < 100).float()
    audio[:, list(closed)] = 0.0
    portrait = Portrait(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.zeros(1, FACE_MESH.dim), {})
    with torch.inference_mode():
        drives = list(made.drives(portrait, [Features(Span(0, 200), audio)], seed=1))
    rows = torch.cat([d.motion.rows for d in drives])
    opening = rows[:, FACE_MESH.slice("expression")] @ lips.opening(FaceModel.pretrained())
    assert float(opening[:100].std()) > 0.01
    assert float(opening[112:].abs().max()) < 0.1 * float(opening[:100].max())
    assert rows[:, FACE_MESH.slice("rotation")].abs().max() < 30
