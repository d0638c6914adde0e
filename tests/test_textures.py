"""The face painter: what it is told counts where it should and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tgdm_weights import PAINTER, STAGE, TINY, awake, tiny, written

from vivavoce.errors import InputError
from vivavoce.nets.textures import Painter, PainterConfig
from vivavoce.nets.tgdm import SEEN, Tgdm, TgdmConfig
from vivavoce.sampling.texturing import guided, paint


def asked(batch: int = 2, **changes: Any):
    """A painter that does something, and what it can be given."""
    torch.manual_seed(1)
    config = replace(PAINTER, **changes)
    net = awake(Painter(config))
    torch.nn.init.normal_(net.last.weight, std=0.1)
    side = 4 * config.multiple
    x, given = torch.randn(batch, 3, side, side), torch.randn(batch, 3 + SEEN, side, side)
    source = torch.randn(batch, 6, 4 * side, 4 * side)
    return net, x, torch.full((batch,), 500.0), given, torch.randn(batch, 151), source


def test_it_begins_by_telling_nothing():
    net, x, t, given, face, source = asked()
    fresh = Painter(PAINTER)
    assert fresh(x, t, given, face, fresh.textures(source)).abs().max() == 0
    assert net(x, t, given, face, net.textures(source)).abs().max() > 0


@pytest.mark.parametrize("what", ["time", "given", "face", "source"])
def test_everything_told_counts(what):
    net, x, t, given, face, source = asked()
    told = {"time": t, "given": given, "face": face, "source": source}
    other = told | {what: told[what] * 0.5}

    def made(one):
        return net(x, one["time"], one["given"], one["face"], net.textures(one["source"]))

    assert (made(told) - made(other)).abs().max() > 1e-4


def test_what_is_switched_off_does_not_count():
    net, x, t, given, face, source = asked(textures=False)
    a, b = (net(x, t, given, face, net.textures(one)) for one in (source, -source))
    assert torch.equal(a, b)
    net, x, t, given, face, source = asked(told=False)
    textures = net.textures(source)
    assert torch.equal(net(x, t, given, face, textures), net(x, t, given, -face, textures))
    assert (net(x, t, given, face, textures) - net(x, t + 200, given, face, textures)).abs().max() > 1e-5


def test_hidden_conditions_are_not_told_and_others_are_untouched():
    net, x, t, given, face, source = asked()
    textures = net.textures(source)
    both = net(x, t, given, face, textures)
    half = net(x, t, given, face, textures, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(half[0], both[0])
    elsewhere = net(x, t, given, -face, net.textures(-source), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(half[1], elsewhere[1])
    assert (half[1] - both[1]).abs().max() > 1e-4


def test_one_person_serves_many_pictures():
    net, x, t, given, face, source = asked(3)
    one = net.textures(source[:1])
    many = net.textures(source[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(net(x, t, given, face, one), net(x, t, given, face, many))


def test_moved_texture_is_found_again():
    """Attention has no places: what lies elsewhere in the source is found as well."""
    net, x, *_ = asked(1)
    layer = net.look
    found = torch.randn(1, layer.q.in_channels, 4, 4)
    torch.testing.assert_close(layer(found, found), layer(found, found.roll((1, 2), (2, 3))))
    del x


def test_the_published_size_can_be_built_and_configurations_that_cannot_are_refused():
    with torch.device("meta"):
        net = Tgdm()
    assert net.first_stage is None
    assert 100e6 < sum(p.numel() for p in net.parameters()) < 400e6
    assert net.config.painter.widths == [128, 128, 256, 256, 512, 512]
    with pytest.raises(ValueError, match="predicts"):
        TgdmConfig(predicts="velocity")
    with pytest.raises(ValueError, match="sources folded"):
        TgdmConfig(PainterConfig(), STAGE)
    with pytest.raises(ValueError, match="multiple"):
        replace(TINY, side=250)
    with pytest.raises(ValueError, match="latents of 4"):
        replace(TINY, first_stage=replace(STAGE, latent=4, picture=4))


def test_networks_are_written_and_read(tmp_path):
    before, after = tiny(), Tgdm.load(written(tmp_path))
    assert after.config == before.config
    for key, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[key])
    with pytest.raises(InputError, match="no tgdm weights"):
        Tgdm.load(tmp_path / "nothing")


def sight(net: Tgdm, batch: int = 1):
    torch.manual_seed(2)
    known, drawn, source = (
        torch.randn(batch, 3, 256, 256),
        torch.rand(batch, SEEN, 256, 256),
        torch.rand(1, 6, 256, 256),
    )
    return net.sight(known, drawn, torch.randn(batch, 151), net.painter.textures(source))


def test_painting_ends_at_what_is_known_plus_what_is_told():
    net = tiny()
    shown = sight(net)
    start = torch.randn(shown.known.shape)
    one = paint(net, start, shown, steps=1)
    told = net.painter(start, torch.full((1,), 999.0), shown.given, shown.face, shown.textures)
    torch.testing.assert_close(one, shown.known + told)
    torch.nn.init.zeros_(net.painter.last.weight)
    torch.testing.assert_close(paint(net, start, shown, steps=5), shown.known)


def test_guidance_goes_further_the_same_way():
    net = tiny()
    shown, step = sight(net), torch.full((1,), 700.0)
    x = torch.randn(shown.known.shape)
    none, one, three = (guided(net, x, step, shown, scale) for scale in (0.0, 1.0, 3.0))
    torch.testing.assert_close(three - none, 3 * (one - none), atol=1e-5, rtol=1e-4)
    assert (one - none).abs().max() > 1e-5


def test_painters_that_tell_noise_are_sampled_along_their_table():
    config = TgdmConfig(replace(PAINTER, fold=1, patch=2), None, 32, "noise")
    net = tiny(config)
    torch.nn.init.zeros_(net.painter.last.weight)  # no noise is ever seen: everything is data, made larger
    known = torch.randn(1, 3, 32, 32)
    shown = net.sight(
        known, torch.rand(1, SEEN, 32, 32), torch.randn(1, 151), net.painter.textures(torch.rand(1, 6, 32, 32))
    )
    start = torch.randn(1, 3, 32, 32)
    shares = config.table.alpha_bars
    expected = start * (shares[0] / shares[-1]) ** 0.5
    torch.testing.assert_close(paint(net, start, shown, steps=3), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"), [({"steps": 0}, "1 to 500"), ({"steps": 2, "guidance": 9.0}, "0 to 5")]
)
def test_what_cannot_be_painted_is_refused(options, message):
    net = tiny()
    shown = sight(net)
    with pytest.raises(InputError, match=message):
        paint(net, torch.randn(shown.known.shape), shown, **options)
