"""Parts of networks start from files of their own."""

from pathlib import Path

import pytest
import torch

import gradloom
from gradloom.engine import build
from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.networks.rrdb_srflow import RRDBSRFlow

OPTIONS = """
name: parts
datasets: {{train: {{mode: photos, crop: 16, scale: 4, batch_size: 2}}}}
networks:
  g: {{which_model: srflow, nf: 4, nb: 1, gc: 2, scale: 4, flow: {{K: 1, L: 1}}, {start}}}
steps:
  g:
    training: g
    optimizer_params: {{lr: 1e-4}}
    injectors: {{z: {{type: generator, generator: g, in: [hq, lq], out: [z, nll]}}}}
    losses: {{nll: {{type: direct, key: nll}}}}
train: {{niter: 1}}
"""


def planned(tmp_path: Path, start: str) -> gradloom.Plan:
    file = tmp_path / "x.yml"
    file.write_text(OPTIONS.format(start=start))
    return gradloom.load(file)


@pytest.mark.parametrize("start", ["pretrained_parts: {RRDB: rrdb.pth}", "pretrain_rrdb: rrdb.pth"])
def test_a_part_has_the_weights_of_its_file(tmp_path: Path, start: str) -> None:
    torch.manual_seed(3)
    rrdb = RRDBSRFlow(3, 3, 4, 1, 4, gc=2)
    torch.save({f"module.{name}": value for name, value in rrdb.state_dict().items()}, tmp_path / "rrdb.pth")
    plan = planned(tmp_path, start)
    networks, said = build.networks(plan, World(device="cpu"))
    torch.testing.assert_close(dict(networks["g"].RRDB.state_dict()), dict(rrdb.state_dict()))
    assert said == [f"g: weights of RRDB from {tmp_path / 'rrdb.pth'}"]
    assert "pretrained" not in str(plan.networks["g"].options)  # a weight file is read without the one it came from


def test_parts_and_files_that_are_not_there_are_said_at_their_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x.yml:5:\d+: networks.g.pretrained_parts.RRDB: there is no file rrdb.pth"):
        build.networks(planned(tmp_path, "pretrained_parts: {RRDB: rrdb.pth}"), World(device="cpu"))
    with pytest.raises(RunError, match="the network has no part 'RRBD'; did you mean 'RRDB'"):
        build.networks(planned(tmp_path, "pretrained_parts: {RRBD: rrdb.pth}"), World(device="cpu"))


def test_weights_that_a_network_adopts_match_strictly(tmp_path: Path) -> None:
    networks, _ = build.networks(planned(tmp_path, "ema: false"), World(device="cpu"))
    theirs = {key: value + 1 for key, value in networks["g"].state_dict().items() if not key.endswith("measured")}
    theirs = {key: value for key, value in theirs.items() if not key.endswith("actnorm.first")}
    torch.save(theirs, tmp_path / "theirs.pth")
    file = tmp_path / "x.yml"
    plan = gradloom.load(file, set=[f"path.pretrain_model_g={tmp_path / 'theirs.pth'}", "path.strict_load=true"])
    networks, _ = build.networks(plan, World(device="cpu"))
    state = networks["g"].state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.items())
    assert all(value.all() for key, value in state.items() if key.endswith("measured"))
