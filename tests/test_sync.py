import pytest
import torch

from vivavoce.nets.sync import SPAN, SyncConfig, SyncExpert
from vivavoce.recipes import moda, sync
from vivavoce.train.loop import fit, load


@pytest.fixture(scope="module")
def told():
    """An expert that has learned that lips follow the first feature."""
    torch.manual_seed(0)
    expert = SyncExpert(SyncConfig(audio=3, lips=2, width=16, dropout=0.0))
    optimiser = torch.optim.Adam(expert.parameters(), 5e-3)
    for _ in range(150):
        audio, lips = pairs(16)
        optimiser.zero_grad()
        expert.telling(audio, lips, 4).backward()
        optimiser.step()
    return expert.eval().requires_grad_(False)


def pairs(count):
    audio = torch.randn(count, 24, 3)
    return audio, torch.stack([audio[..., 0], 0.3 * torch.randn(count, 24)], 2)


def test_it_tells_lips_that_belong_from_lips_that_do_not(told):
    torch.manual_seed(1)
    audio, lips = pairs(8)
    assert told(audio, lips).shape == (8, 24 - SPAN + 1)
    assert told(audio, lips).mean() > told(audio, lips.roll(4, 1)).mean() + 0.3


def test_disagreement_is_less_for_true_lips_and_leads_towards_them(told):
    torch.manual_seed(2)
    audio, lips = pairs(4)
    valid = torch.ones(4, 24, dtype=torch.bool)
    wrong = lips.roll(4, 1).requires_grad_()
    loss = told.disagreement(audio, wrong, lips, valid)
    assert loss > told.disagreement(audio, lips, lips, valid)
    loss.backward()
    better = (wrong - 0.5 * wrong.grad / wrong.grad.abs().max()).detach()
    assert told.disagreement(audio, better, lips, valid) < loss


def test_what_is_hidden_or_does_not_belong_teaches_nothing(told):
    torch.manual_seed(3)
    audio, lips = pairs(2)
    nowhere = torch.zeros(2, 24, dtype=torch.bool)
    assert told.disagreement(audio, lips, lips, nowhere) == 0
    silent = torch.zeros_like(audio)
    stretches = told(silent, lips) > 0.4
    everywhere = torch.ones(2, 24, dtype=torch.bool)
    assert (told.disagreement(silent, lips, lips, everywhere) == 0) == (not stretches.any())


def test_the_recipe_trains_and_its_expert_teaches_the_generator(tmp_path):
    task = fit(load("toy-sync"))
    with torch.no_grad():
        assert task.judge()["told"] > 0.5
        task.export(tmp_path)
    expert = sync.load(tmp_path / "sync.safetensors")
    assert torch.equal(expert.lips_std, task.expert.lips_std)
    recipe = load("toy-moda")
    plain = recipe.task()
    taught = moda.MotionTask(
        plain.flow.net.config, moda.pretend(6, 0), moda.pretend(1, 1), moda.Losses(), expert=expert
    )
    batch = recipe.data(0)(0)
    notes = next(taught.objectives(batch, torch.Generator().manual_seed(0))).notes
    assert notes["sync"] > 0
    assert "sync" not in next(plain.objectives(batch, torch.Generator().manual_seed(0))).notes
