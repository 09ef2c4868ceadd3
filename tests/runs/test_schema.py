"""The JSON Schema of options: what Gradloom takes is valid, and what it refuses for its shape is not."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gradloom import cli
from gradloom.config.source import parse
from gradloom.plan.dialect import dialect

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is in the extra 'test'")

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "options").rglob("*.yml")), *sorted((ROOT / "tests/faults/parts").glob("[ms]*.yml"))]
RUN = """
name: run
datasets: {train: {mode: imagefolder, paths: [a], scale: 2, target_size: 8, batch_size: 4, n_workers: 0}}
networks:
  generator: {which_model: RRDBNet, kwargs: {in_nc: 3, out_nc: 3, nf: 4, nb: 1, scale: 2}, type: generator, ema: true}
  discriminator: {which_model: discriminator_vgg_128_gn, in_nc: 3, nf: 8, image_size: 32, trainable: true}
steps:
  s:
    training: generator
    optimizer: adam
    optimizer_params: {lr: {linear: {from: 1e-3, to: 0, end: 10}}, betas: [0.5, 0.9], offload: false}
    injectors:
      drawn: {type: generator, generator: generator, in: [lq, None, 3, [hq]], out: fake, every: 2}
      each: {type: for_each, part: {type: interpolate, in: hq, out: small, mode: area, scale_factor: 0.5}}
      turns: {type: step_interleave, subinjectors: {a: {type: grey, in: hq, out: b}}}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: fake, weight: 0.5}
  other: {training: discriminator, optimizer_params: {lr: 1e-4, weight_decay: 0.1}, losses: {size: {type: direct, key: fake}}}
train: {niter: 10, default_lr_scheme: {type: StepLR, step_size: 3}, mega_batch_factor: auto}
eval:
  evaluators:
    psnr: {type: psnr, for: generator.ema, fake: fake, real: hq}
path: {pretrain_model_generator: a.pth, strict_load: false}
logger:
"""


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(dialect())


def places(text: str) -> list[str]:
    """Where the schema finds something wrong."""
    node, faults = parse(text, "x.yml")
    assert node is not None and not faults
    errors = [jsonschema.exceptions.best_match([error]) for error in validator().iter_errors(node.plain())]
    return [error.json_path for error in errors]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(dialect())


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_shipped_files_are_valid(file: Path) -> None:
    assert places(file.read_text()) == []


def test_much_of_the_dialect_is_valid() -> None:
    assert places(RUN) == []


@pytest.mark.parametrize(("right", "wrong", "where"), [
    ("niter: 10", "niters: 10", "$.train"),
    ("niter: 10", "niter: ten", "$.train.niter"),
    ("niter: 10", "niter: -1", "$.train.niter"),
    ("logger:", "loger:", "$"),
    ("logger:", "logger: {visuals: lq}", "$.logger"),
    ("name: run", "name: 3", "$.name"),
    ("mega_batch_factor: auto", "mega_batch_factor: all", "$.train.mega_batch_factor"),
    ("step_size: 3", "steps: 3", "$.train.default_lr_scheme"),
    ("mode: imagefolder", "mode: imagefolders", "$.datasets.train.mode"),
    ("n_workers: 0", "n_worker: 0", "$.datasets.train"),
    ("target_size: 8", "target_size: large", "$.datasets.train.target_size"),
    ("which_model: RRDBNet", "which_model: RRDB", "$.networks.generator.which_model"),
    ("which_model: RRDBNet, ", "", "$.networks.generator"),
    ("nf: 4", "nff: 4", "$.networks.generator.kwargs"),
    ("nf: 8", "nf: eight", "$.networks.discriminator.nf"),
    ("in_nc: 3, nf: 8, ", "nf: 8, ", "$.networks.discriminator"),
    ("trainable: true", "trainable: 1", "$.networks.discriminator.trainable"),
    ("type: generator, ema", "type: painter, ema", "$.networks.generator.type"),
    ("training: generator", "trains: generator", "$.steps.s"),
    ("optimizer: adam", "optimizer: adamm", "$.steps.s.optimizer"),
    ("betas: [0.5, 0.9]", "betas: [0.5]", "$.steps.s.optimizer_params.betas"),
    ("betas: [0.5, 0.9]", "momentum: 0.9", "$.steps.s.optimizer_params"),
    ("weight_decay: 0.1", "weight_deca: 0.1", "$.steps.other.optimizer_params"),
    ("end: 10", "ende: 10", "$.steps.s.optimizer_params.lr"),
    ("type: generator, generator: generator", "type: generater, generator: generator", "$.steps.s.injectors.drawn.type"),
    ("out: fake", "output: fake", "$.steps.s.injectors.drawn"),
    ("every: 2", "every: 0", "$.steps.s.injectors.drawn.every"),
    ("[lq, None, 3, [hq]]", "{a: lq}", "$.steps.s.injectors.drawn.in"),
    ("mode: area", "mode: areas", "$.steps.s.injectors.each.part.mode"),
    ("type: interpolate", "type: interpolated", "$.steps.s.injectors.each.part.type"),
    ("type: grey, in: hq", "type: gray, in: hq", "$.steps.s.injectors.turns.subinjectors.a.type"),
    ("type: grey, in: hq", "type: grey, inn: hq", "$.steps.s.injectors.turns.subinjectors.a"),
    ("criterion: l1", "criterion: l3", "$.steps.s.losses.pix.criterion"),
    ("weight: 0.5", "weight: {linear: 3}", "$.steps.s.losses.pix.weight"),
    ("type: psnr", "type: psnrr", "$.eval.evaluators.psnr.type"),
    ("for: generator.ema", "of: generator.ema", "$.eval.evaluators.psnr"),
    ("evaluators:", "evaluator:", "$.eval"),
    ("strict_load: false", "strict: false", "$.path"),
])  # fmt: skip
def test_what_is_misspelt_or_of_a_wrong_type_is_found_at_its_place(right: str, wrong: str, where: str) -> None:
    assert RUN.count(right) >= 1
    found = places(RUN.replace(right, wrong, 1))
    assert any(place.startswith(where) or where.startswith(place) for place in found)


@pytest.mark.parametrize(
    "part", ["generator", "for_each", "interpolate", "pix", "psnr", "imagefolder", "discriminator_vgg_128_gn"]
)
def test_plugins_may_define_types(part: str) -> None:
    unknown = RUN.replace(f"{{type: {part},", "{type: mine, tone: 3,").replace(
        f"{{mode: {part},", "{mode: mine, tone: 3,"
    )
    unknown = unknown.replace(f"which_model: {part},", "which_model: mine, tone: 3,")
    assert unknown != RUN
    assert places(unknown) != []
    assert places(unknown + "plugins: [mine.py]\n") == []
    assert places(unknown + "include: other.yml\n") == []


def test_a_file_that_includes_others_may_leave_things_out() -> None:
    assert (
        places("include: [a.yml, b.yml]\nnetworks: {generator: {nf: 3}}\nsteps: {s: {losses: {pix: {weight: 2}}}}\n")
        == []
    )
    assert places("include: a.yml\ntrain: {niters: 3}\n") == ["$.train"]
    assert places("name: x\n") != []


def test_the_command_prints_it_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert cli.main(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text() == printed
    assert json.loads(printed)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert cli.main(["schema", "-o", str(tmp_path / "none" / "schema.json")]) == 1
    assert "schema.json: No such file or directory" in capsys.readouterr().err


def test_options_are_described_with_their_defaults() -> None:
    defs = dialect()["$defs"]
    assert defs["dataset.imagefolder"]["properties"]["mode"] == {"const": "imagefolder"}
    assert defs["every_dataset"]["properties"]["drop_last"]["default"] is True
    assert defs["every_loss"]["properties"]["weight"]["anyOf"] == [{"type": "number"}, {"$ref": "#/$defs/schedule"}]
    assert defs["injector.pad"]["properties"]["multiple"] == {"type": "integer", "exclusiveMinimum": 0}
    assert "or whole numbers" not in defs["injector.random_shift"]["description"]
    assert defs["injector.stylegan2_noise"]["properties"]["latent_dim"] == {
        "type": "integer", "exclusiveMinimum": 0, "description": "D", "default": 512,
    }  # fmt: skip
