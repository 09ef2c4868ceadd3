"""Two recorded runs of the ancestor, from the same weights on the same batches, end at the same weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradloom

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "parity"


@gradloom.networks.register("tiny_gen")
class TinyGen(nn.Module):
    def __init__(self, nf: int = 8) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, nf, 3, 1, 1)
        self.norm = nn.GroupNorm(2, nf)
        self.body = nn.Conv2d(nf, nf, 3, 1, 1)
        self.tail = nn.Conv2d(nf, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = F.leaky_relu(self.norm(self.head(x)), 0.2)
        f = F.interpolate(f, scale_factor=2, mode="nearest")
        return self.tail(F.leaky_relu(self.body(f), 0.2))


@gradloom.networks.register("tiny_disc")
class TinyDisc(nn.Module):
    def __init__(self, nf: int = 8) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, nf, 4, 2, 1)
        self.c2 = nn.Conv2d(nf, nf, 4, 2, 1)
        self.norm = nn.GroupNorm(2, nf)
        self.fc = nn.Linear(nf * 4 * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = F.leaky_relu(self.c1(x), 0.2)
        return self.fc(F.leaky_relu(self.norm(self.c2(f)), 0.2).flatten(1))


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Round as the recordings did: in ragan, gradients cancel, and Adam makes steps of what rounding leaves of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["vanilla", "ragan_accum2"])
def test_a_recorded_run_is_reproduced(name: str) -> None:
    if not RECORDINGS.is_dir():
        pytest.skip("the recordings are not beside the checkout")
    recorded = torch.load(RECORDINGS / f"{name}.pt", weights_only=True)
    trainer = gradloom.ExtensibleTrainer(gradloom.load(RECORDINGS / f"{name}.yml"), device="cpu")
    for network, weights in recorded["init"].items():
        trainer.networks[network].load_state_dict(weights)
    generator = torch.Generator().manual_seed(recorded["data_seed"])
    for iteration in range(recorded["iters"]):
        lq = torch.rand(4, 3, 8, 8, generator=generator)
        hq = torch.rand(4, 3, 16, 16, generator=generator)
        metrics = trainer.train_step({"lq": lq, "hq": hq})
        if name == "vanilla":  # with micro-batches the recording has the last one's, where ours are means
            trace = recorded["trace"][iteration]
            assert float(metrics["gen_step/pix"]) == pytest.approx(trace["pix"], rel=1e-4)
            assert float(metrics["disc_step/gan_d"]) == pytest.approx(trace["gan_d"], rel=1e-4)
            assert float(metrics["gen_step/total"]) == pytest.approx(trace["generator_total"], rel=1e-4)
    for network, weights in recorded["final"].items():
        ours = trainer.networks[network].state_dict()
        for key, tensor in weights.items():
            difference = (ours[key] - tensor).norm() / tensor.norm()
            assert difference < 1e-5, f"{network}.{key} differs by {difference:.1e}"
