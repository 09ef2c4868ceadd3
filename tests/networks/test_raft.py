"""RAFT as torchvision has it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.models.optical_flow import raft_small

import gradloom
from gradloom.engine.preflight.look import look_ahead
from gradloom.injectors._flow import flow_between, warp
from gradloom.networks.raft import Raft
from making import plan_of


@pytest.fixture(scope="module")
def network() -> Raft:
    torch.manual_seed(0)
    return Raft(updates=2).eval()


def test_it_is_torchvisions_network_on_pairs(network: Raft) -> None:
    theirs = raft_small(weights=None).eval()
    theirs.load_state_dict(network.raft.state_dict())
    first, second = torch.rand(2, 1, 3, 128, 136)
    with torch.no_grad():
        expected = theirs(2 * first - 1, 2 * second - 1, num_flow_updates=2)[-1]
        torch.testing.assert_close(network(torch.stack([first, second], 2)), expected)


def test_small_images_are_continued_by_their_borders(network: Raft) -> None:
    first, second = torch.rand(2, 2, 3, 20, 133)
    longer = [F.pad(image, (0, 3, 0, 108), mode="replicate") for image in (first, second)]
    with torch.no_grad():
        flow = network(torch.stack([first, second], 2))
        torch.testing.assert_close(flow, network(torch.stack(longer, 2))[..., :20, :133])
    assert flow.shape == (2, 2, 20, 133)


def test_it_serves_injectors_of_flows(network: Raft) -> None:
    first, second = torch.rand(2, 1, 3, 16, 16)
    flow = flow_between(network, first, second)
    assert warp(second, flow).shape == first.shape and not flow.requires_grad


@gradloom.datasets.register("test_clips")
class Clips(Dataset[dict[str, Tensor]]):
    """Three frames of noise, small and large."""

    keys = ("lq", "hq")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"lq": torch.rand(3, 3, 16, 16), "hq": torch.rand(3, 3, 32, 32)}


RUN = """
name: clips
datasets: {train: {mode: test_clips, batch_size: 2}}
networks:
  generator: {which_model: RRDBNet, in_nc: 9, out_nc: 3, nf: 4, nb: 1, gc: 2, scale: 2}
  flow: {which_model: raft, updates: 1, trainable: false, pretrained_parts: {raft: "%s"}}
steps:
  enlarge:
    training: generator
    optimizer_params: {lr: 1e-3}
    injectors:
      frames: {type: multi_frame_combiner, mode: combine, in: lq, out: frames, in_hq: hq, out_hq: middle, flow: flow}
      made: {type: generator, generator: generator, in: frames, out: made}
    losses: {pix: {type: pix, criterion: l1, real: middle, fake: made}}
train: {niter: 2}
"""


def test_a_run_on_video_with_torchvisions_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = raft_small(weights=None).state_dict()
    torch.save(published, tmp_path / "raft.pth")
    plan = plan_of(RUN % (tmp_path / "raft.pth"))
    report = look_ahead(plan, torch.device("cpu"))
    assert not report.faults and not report.notices
    trainer = gradloom.Trainer(plan)
    metrics = trainer.train_step({"lq": torch.rand(2, 3, 3, 16, 16), "hq": torch.rand(2, 3, 3, 32, 32)})
    assert metrics["enlarge/pix"].isfinite()
    flow = trainer.networks["flow"].state_dict()
    assert all(torch.equal(flow[f"raft.{name}"], value) for name, value in published.items())
