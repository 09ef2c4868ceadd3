"""BYOL of maps: the loss of the places that two views share, against loops over them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from gradloom.networks.structural_byol import StructuralByol, _places
from gradloom.parts import NetworkChoice
from networks.subnets import small


class Maps(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 4, 4), nn.Tanh())


REGIONS = torch.tensor([[8, 5, 6, 1, 0, 6, 5, 0, 2, 1, 4, 3], [8, 7, 7, 0, 0, 8, 7, 0, 1, 0, 7, 6]])


def structural(**options):
    torch.manual_seed(0)
    options = {"image_size": 32, "hidden_layer": -1, "projection_size": 5, "projection_hidden_size": 7, **options}
    return StructuralByol(NetworkChoice("maps", Maps, {}), **options).double()


def views():
    return torch.rand(2, 2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def shared(first, second, numbers):
    """The region of one image in both maps (C, N, N), by resizing and cutting."""
    _, height1, width1, top1, left1, height2, width2, top2, left2, flipped, height, width = numbers.tolist()
    second = second.flip(-1) if flipped else second
    first = interpolate(first[None], (height1, width1), mode="nearest")[0]
    second = interpolate(second[None], (height2, width2), mode="nearest")[0]
    return (
        first[:, top1 : top1 + height, left1 : left1 + width],
        second[:, top2 : top2 + height, left2 : left2 + width],
    )


def mean_distance(first, second):
    first, second = (x / x.square().sum(0, keepdim=True).sqrt() for x in (first, second))
    return (2 - 2 * (first * second).sum(0)).mean()


def test_places_are_those_of_resizing_and_cutting():
    maps = torch.rand(2, 2, 3, 8, 8)
    first, second, counts = _places(*maps, REGIONS)
    for index, numbers in enumerate(REGIONS):
        one, two = shared(maps[0][index], maps[1][index], numbers)
        height, width = numbers[-2:].tolist()
        assert torch.equal(first[index, :, :height, :width], one)
        assert torch.equal(second[index, :, :height, :width], two)
        assert int(counts[index].sum()) == height * width


@pytest.mark.parametrize("regions", [None, REGIONS])
def test_the_loss_is_that_of_the_places_that_both_show(regions):
    network = structural()
    for parameter in network.target_encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    predicted = [network.online_predictor(network.online_encoder(view)) for view in views()]
    wanted = [network.target_encoder(view) for view in views()]
    expected = 0
    for index in range(2):
        for first, second in ((predicted[0], wanted[1]), (wanted[0], predicted[1])):
            pair = first[index], second[index]
            expected += mean_distance(*(pair if regions is None else shared(*pair, regions[index]))) / 2
    torch.testing.assert_close(network(*views(), *([] if regions is None else [regions])), expected)


def test_gradients_reach_what_is_trained_and_the_copy_follows():
    network = structural(moving_average_decay=0.5)
    network(*views(), REGIONS).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (not name.startswith("target")), name
    network.online_encoder.net[0].bias.data += 2
    before = network.target_encoder.net[0].bias.clone()
    network.update_for_step(1)
    torch.testing.assert_close(network.target_encoder.net[0].bias, before + 1)


def test_heads_may_learn_alone_at_first():
    network = structural(freeze_until=3)
    for iteration, learns in ((0, False), (2, False), (3, True)):
        network.zero_grad()
        network.update_for_step(iteration)
        network(*views(), REGIONS).backward()
        assert (network.online_encoder.net[0].weight.grad is not None) == learns
        assert network.online_encoder.projector.net[0].weight.grad.any()
        assert network.online_predictor.net[0].weight.grad.any()


def test_the_subnet_may_start_from_weights(tmp_path):
    net = Maps()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    network = structural(pretrained_path=tmp_path / "net.pth")
    torch.testing.assert_close(network.online_encoder.net[0].weight, net[0].weight.double())
    torch.testing.assert_close(network.target_encoder.net[0].weight, net[0].weight.double())
    with pytest.raises(ValueError, match=r"pretrained_path: there is no file .*none.pth"):
        structural(pretrained_path=tmp_path / "none.pth")


def test_the_dataset_and_the_network_speak_of_the_same_places():
    """Features that tell where they are in the image agree at the places that are brought together."""
    pytest.importorskip("kornia")
    from datasets.within import Pictures, pictures
    from gradloom.datasets.byol_structured_dataset import ByolStructuredDataset

    class Ramp(Pictures):
        def __getitem__(self, index):
            slopes = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, 64)] * 2, indexing="ij"))
            image = torch.cat([slopes, slopes[:1]])
            return {"hq": image, "lq": image}

    data = ByolStructuredDataset(pictures(Ramp), latent_multiple=8)
    data.colours = nn.Identity()
    torch.manual_seed(0)
    samples = [data[0] for _ in range(20)]
    one, two, regions = (
        torch.stack([s[key] for s in samples]) for key in ("aug1", "aug2", "similar_region_dimensions")
    )
    maps = [nn.functional.avg_pool2d(view, 8) for view in (one, two)]
    first, second, counts = _places(*maps, regions)
    gap = ((first - second).abs().amax(1) * counts).amax()
    assert gap < 0.2  # a unit is an eighth, and resized views show it shifted by less than that


def test_regions_in_other_units_are_refused():
    with pytest.raises(
        ValueError, match="regions count 4 units a side, the layer's maps have 8x8 places; 'latent_mult"
    ):
        structural()(*views(), torch.cat([torch.full((2, 1), 4), REGIONS[:, 1:]], 1))


def test_a_layer_without_maps_is_refused():
    with pytest.raises(ValueError, match=r"hidden_layer: it has to make maps \(B, C, H, W\); this one makes \(1, 10\)"):
        StructuralByol(small(), image_size=16, hidden_layer="head")
