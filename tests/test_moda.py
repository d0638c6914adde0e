import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes.moda import moda_toy
from vivavoce.systems import moda


def test_unknown_emotion_device_and_backend_name_what_exists():
    with pytest.raises(InputError, match="no emotion 'bored'; there are anger"):
        moda.assemble(emotion="bored")
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
    shaped = noise @ made.spread
    opening = shaped[:, FACE_MESH.slice("expression")] * flow.std[FACE_MESH.slice("expression")]
    from vivavoce.face.model import FaceModel
    from vivavoce.motion import lips

    read = lips.opening(FaceModel.pretrained())
    full = noise[:, FACE_MESH.slice("expression")] * flow.std[FACE_MESH.slice("expression")]
    assert float((opening @ read).std()) < 0.5 * float((full @ read).std())
    assert torch.equal(shaped[:, FACE_MESH.slice("rotation")], noise[:, FACE_MESH.slice("rotation")])
    assert torch.equal(shaped[:, FACE_MESH.slice("eyelids")], noise[:, FACE_MESH.slice("eyelids")])
