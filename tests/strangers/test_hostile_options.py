"""Options files by strangers: whatever they say, nothing of it is run but `plugins`."""

import subprocess
import sys
from pathlib import Path

import pytest

import gradloom
from gradloom.config.document import read

ROOT = Path(__file__).resolve().parents[2]
SOUND = (ROOT / "tests" / "faults" / "parts" / "sound.yml").read_text()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def refused(folder: Path, text: str, *overrides: str) -> str:
    """The faults of a text."""
    file = folder / "x.yml"
    file.write_text(text)
    with pytest.raises(gradloom.OptionsError) as found:
        gradloom.load(file, set=overrides)
    return str(found.value)


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.system ["touch CANARY"]',
        '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["CANARY"]]',
        "!!python/object/new:subprocess.Popen [[touch, CANARY]]",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [touch CANARY]",
    ],
)
@pytest.mark.parametrize("place", ["name: {}", "train: {{niter: {}}}", "more: [{}]", "{}: 1"])
def test_tags_make_nothing(tmp_path: Path, canary: Path, value: str, place: str) -> None:
    text = f"{SOUND}\n{place.format(value)}\n".replace("CANARY", str(canary)).replace("\nname: sound\n", "\n")
    assert refused(tmp_path, text)
    assert not canary.exists()


NAMES = ["os.system", "subprocess.Popen", "torch.nn.Linear", "builtins:eval", "__import__('os').system('touch CANARY')",
         "../../canary", "gradloom.networks", "_sizes", "__init__", "$(touch CANARY)", "`touch CANARY`"]  # fmt: skip
PLACES = {
    "networks.generator.which_model": "no network is called",
    "datasets.train.mode": "no dataset is called",
    "steps.generator_step.optimizer": "no optimizer is called",
    "steps.generator_step.injectors.noise.type": "no injector is called",
    "steps.generator_step.losses.fool.type": "no loss is called",
    "train.default_lr_scheme": "no learning rate scheme is called",
    "steps.generator_step.injectors.drawn.generator": "no network is called",
    "steps.generator_step.optimizer_params.lr": "expected",
    "steps.generator_step.losses.fool.weight": "expected",
    "steps.generator_step.losses.fool.gan_type": "expected one of",
    "train.niter": "expected a whole number",
    "precision": "expected one of",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_names_are_looked_up_and_never_imported(tmp_path: Path, canary: Path, place: str, name: str) -> None:
    value = name.replace("CANARY", str(canary))
    said = refused(tmp_path, SOUND, f"""{place}={{type: "{value}"}}""" if "scheme" in place else f'{place}="{value}"')
    assert PLACES[place] in said
    assert not canary.exists()


@pytest.mark.parametrize(
    "value", ["__import__('os').system('touch CANARY')", "${oc.env:HOME}", "$HOME", "{{ 7*7 }}", "%(x)s"]
)
def test_an_override_stays_text(tmp_path: Path, canary: Path, value: str) -> None:
    text = value.replace("CANARY", str(canary))
    (tmp_path / "x.yml").write_text(SOUND)
    document = read(tmp_path / "x.yml", [f'logger.x="{text}"'])
    assert document.root is not None
    assert document.root.fields["logger"].fields["x"].value == text
    assert not canary.exists()


@pytest.mark.parametrize("key", ["plugin", "imports", "networks.generator.plugins", "train.plugins", "custom_modules"])
def test_nothing_else_brings_code_in(tmp_path: Path, canary: Path, key: str) -> None:
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    assert "unknown" in refused(tmp_path, SOUND, f"{key}=[evil.py]")
    assert not canary.exists()
    (tmp_path / "x.yml").write_text(f"{SOUND}\nplugins: [evil.py]\n")
    gradloom.load(tmp_path / "x.yml")
    assert canary.exists()  # this is the way


def test_a_file_that_is_not_read_as_options_runs_nothing(tmp_path: Path, canary: Path) -> None:
    """Beside the options lie modules with the names of what Gradloom imports."""
    for name in ("torch", "yaml", "dcgan_generator", "gradloom"):
        (tmp_path / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    (tmp_path / "x.yml").write_text(SOUND)
    command = [sys.executable, str(ROOT / "train.py"), "-opt", "x.yml", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not canary.exists()
