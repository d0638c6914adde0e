import numpy as np
import pytest
from test_mouth import portrait

from vivavoce.recipes.mouth import STARTS, Shown, _error, regress, search
from vivavoce.render.mouth import Mouth, draw_layer, prepare_mouth
from vivavoce.render.mouth_kernel import OPACITY, WET
from vivavoce.render.mouth_place import locate
from vivavoce.render.mouth_state import State, features


def test_regression_finds_a_linear_map():
    rng = np.random.default_rng(0)
    wanted = rng.normal(0, 0.1, (7, 15))
    given = np.stack([features(rng.normal(0, 1, 6), rng.uniform(0.02, 0.15)) for _ in range(4000)])
    found = regress(given, given @ wanted.T, np.ones(len(given)))
    assert found == pytest.approx(wanted, abs=0.01)


def test_search_explains_a_drawn_mouth_better_than_where_it_starts():
    held = Mouth(**{name: value.numpy() for name, value in prepare_mouth(*portrait()).items()})
    image, landmarks, _, pose = portrait(0.12)
    place = locate(held.origin, landmarks, pose, image.shape[:2])
    assert place is not None
    layer, _ = draw_layer(held, place, State(upper=0.03, upper_light=0.6, tongue=0.9, tongue_light=1.3))
    seen = layer[..., OPACITY] > 0.99
    lip, wet = held.colours[3], np.where(seen, layer[..., WET], 0)[..., None]
    colour = np.where(seen[..., None], layer[..., :3], lip)
    truth = np.minimum(colour + (lip - colour) * wet, 255).astype(np.float32)
    shown = Shown(place, truth, seen.astype(np.float32), np.zeros(6, np.float32))
    found = search(held, shown)
    assert _error(held, shown, found) < 0.5 * min(_error(held, shown, np.array(start)) for start in STARTS)
    assert found[2] < 0.85
