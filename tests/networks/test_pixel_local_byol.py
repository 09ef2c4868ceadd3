"""BYOL of points: the point is the same in both views, and the loss is the formula there."""

import pytest
import torch
from torch import nn

pytest.importorskip("kornia")
from gradloom.networks._points import MARGIN, Parts, draw_parts, draw_points, values_at
from gradloom.networks.pixel_local_byol import PixelLocalByol
from gradloom.parts import NetworkChoice
from networks.subnets import small


class Maps(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 4, 4), nn.Tanh())


def pixel_local(**options):
    torch.manual_seed(0)
    choice = NetworkChoice("maps", Maps, {})
    options = {"image_size": 16, "hidden_layer": -1, "projection_size": 5, "projection_hidden_size": 7, **options}
    return PixelLocalByol(choice, **options).double()


def images(count=6, size=16):
    return torch.rand(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_maps_are_looked_up_between_places():
    maps = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 3, 4)
    middle = torch.tensor([[1.5 / 4, 2.5 / 3]], dtype=torch.float64)  # of column 1, row 2
    assert values_at(maps, middle).item() == pytest.approx(9)
    between = torch.tensor([[2 / 4, 1.25 / 3]], dtype=torch.float64)  # half of columns 1 and 2; a quarter over row 1
    assert values_at(maps, between).item() == pytest.approx(0.75 * 5.5 + 0.25 * 1.5)


def test_the_loss_is_the_formula_at_the_point():
    network = pixel_local()
    for parameter in network.target_encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    one, two = images(), images().flip(0)
    rows, columns = torch.tensor([0, 1, 2, 3, 0, 2]), torch.tensor([3, 0, 1, 2, 2, 2])
    points = [torch.stack([(c + 0.5) / 4, (r + 0.5) / 4], 1).double() for r, c in ((rows, columns), (columns, rows))]

    def projected(encoder, view, row, column):
        return encoder.projector(encoder.net(view)[torch.arange(6), :, row, column])

    def unit(x):
        return x / x.square().sum(1, keepdim=True).sqrt()

    online, target = network.online_encoder, network.target_encoder
    views = ((one, rows, columns), (two, columns, rows))
    first, second = (unit(network.online_predictor(projected(online, *view))) for view in views)
    wanted = [unit(projected(target, *view)) for view in views]
    expected = (4 - 2 * (first * wanted[1]).sum(1) - 2 * (second * wanted[0]).sum(1)).mean()
    torch.testing.assert_close(network.compare(one, two, *points), expected)


def test_a_part_shows_the_point_where_it_says():
    """Of an image whose colours are its coordinates, a view shows at the point those of the point."""
    torch.manual_seed(0)
    size = 128
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    picture = torch.stack([middles.repeat(size, 1), middles.repeat(size, 1).T]).expand(200, -1, -1, -1)
    points = draw_points(picture)
    parts = draw_parts(points)
    shown = values_at(parts.cut(picture, 64), parts.seen_at(points))
    torch.testing.assert_close(shown, points, atol=1e-3, rtol=0)
    assert 70 <= int(parts.mirrored.sum()) <= 130
    other = draw_parts(points)
    assert not torch.equal(other.corner, parts.corner)


def test_parts_are_in_the_image_and_hold_the_point():
    torch.manual_seed(0)
    points = draw_points(torch.zeros(5000, 1, 2, 2))
    parts = draw_parts(points)
    assert (points >= 0.125).all() and (points <= 0.875).all()
    assert (parts.corner >= 0).all() and (parts.corner + parts.size <= 1 + 1e-6).all()
    inside = parts.seen_at(points)
    assert (inside >= MARGIN - 1e-4).all() and (inside <= 1 - MARGIN + 1e-4).all()
    area, ratio = parts.size.prod(1), parts.size[:, 0] / parts.size[:, 1]
    assert 0.08 <= area.min() < 0.1 and 0.9 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.34


def test_a_part_is_cut_out_and_mirrored():
    picture = images(1, 8)
    whole = Parts(torch.zeros(1, 2).double(), torch.ones(1, 2).double(), torch.tensor([False]))
    torch.testing.assert_close(whole.cut(picture, 8), picture)
    mirrored = whole._replace(mirrored=torch.tensor([True]))
    torch.testing.assert_close(mirrored.cut(picture, 8), picture.flip(-1))
    corner, size = torch.tensor([[0.25, 0.5]]).double(), torch.tensor([[0.5, 0.5]]).double()
    torch.testing.assert_close(Parts(corner, size, torch.tensor([False])).cut(picture, 4), picture[:, :, 4:8, 2:6])


def test_it_trains_on_images_alone():
    network, x = pixel_local(), images()
    torch.manual_seed(3)
    loss = network(x)
    torch.manual_seed(3)
    assert network(x).item() == pytest.approx(loss.item())
    loss.backward()
    assert all(p.grad is None for p in network.target_encoder.parameters())
    online = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, p in online.items() if p.grad is None or not p.grad.any()} == set()
    assert network.features(x).shape == (6, 4)
    torch.testing.assert_close(
        network.at(x, torch.full((6, 2), 0.125).double()), network.online_encoder.net(x)[:, :, 0, 0]
    )


def test_images_may_come_normalized():
    mean, deviation = (torch.tensor(v).double()[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    losses = []
    for network, x in ((pixel_local(), images()), (pixel_local(normalize="imagenet"), (images() - mean) / deviation)):
        seen = []
        network.online_encoder.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        torch.manual_seed(5)
        network(x)
        losses.append(seen[0])
    torch.testing.assert_close(losses[1] * deviation + mean, losses[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("normalize", [None, "imagenet"])
def test_it_can_be_followed_without_values(normalize):
    with torch.device("meta"):
        network = PixelLocalByol(NetworkChoice("maps", Maps, {}), 16, -1, normalize=normalize)
    assert network.to("meta")(torch.rand(4, 3, 16, 16, device="meta")).is_meta


def test_a_layer_without_maps_is_refused():
    with pytest.raises(ValueError, match=r"hidden_layer: it has to make maps \(B, C, H, W\); this one makes \(1, 10\)"):
        PixelLocalByol(small(), image_size=16, hidden_layer="head")
