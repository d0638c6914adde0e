import numpy as np

from vivavoce.data.align import Voice, lags


def voices(count=12, frames=150, seed=0):
    """Speakers whose lips follow two of five features, with noise of their own."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        audio = np.cumsum(rng.standard_normal((frames, 5)), axis=0)
        audio = (audio - np.roll(audio, 5, axis=0)).astype(np.float32)
        opening = audio[:, 0] - 0.5 * audio[:, 1] + 0.5 * rng.standard_normal(frames)
        yield Voice(f"clip {n}", f"speaker {n}", audio, opening.astype(np.float32))


def later(voice, lag):
    """The same clip with its picture ``lag`` frames later."""
    return Voice(voice.name, voice.speaker, voice.audio, np.roll(voice.opening, lag))


def test_clips_in_step_stay():
    assert set(lags(list(voices())).values()) == {0}


def test_late_and_early_pictures_are_found():
    given = [later(v, {3: 3, 7: -2}.get(n, 0)) for n, v in enumerate(voices())]
    found = lags(given)
    assert found["clip 3"] == 3
    assert found["clip 7"] == -2
    assert all(lag == 0 for name, lag in found.items() if name not in ("clip 3", "clip 7"))


def test_lips_that_do_not_follow_the_sound_are_named():
    given = list(voices())
    rng = np.random.default_rng(9)
    given[5] = Voice("clip 5", "speaker 5", given[5].audio, rng.standard_normal(150).astype(np.float32))
    assert lags(given)["clip 5"] is None
