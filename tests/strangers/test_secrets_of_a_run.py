"""A whole run with secrets in its options: its dataset is given them, and nobody else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradloom.config.document import read

ROOT = Path(__file__).resolve().parents[2]
FROM_FILE, FROM_INCLUDE, FROM_SET, FROM_ADDRESS = "sesame-file-71", "sesame-include-72", "sesame set 73", "sesame74"
BROKEN_OFF = "sesame-line-75"
SECRETS = (FROM_FILE, FROM_INCLUDE, FROM_SET, FROM_ADDRESS, BROKEN_OFF, "7654321")

PLUGIN = '''
"""A dataset that asks for everything."""
import json
from pathlib import Path
import torch
import gradloom

@gradloom.datasets.register("guarded")
class Guarded(torch.utils.data.Dataset):
    """Random numbers for those who know the words."""

    keys = ("x",)

    def __init__(self, report: Path, api_token: str, access_key: str, login: dict[str, str | int], url: str,
                 private_key: str = "", fails: str = "") -> None:
        given = [api_token, access_key, login, url, private_key]
        report.write_text(json.dumps(given))
        if fails == "early":
            raise ValueError(f"the server refuses {given}")
        self.fails, self.given = fails, given

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int):
        if self.fails == "late" and index:
            raise KeyError(f"the server forgot {self.given}")
        return {"x": torch.randn(4)}

@gradloom.networks.register("guarded_line")
class Line(torch.nn.Linear):
    """A line that is paid for."""

    def __init__(self, api_token: str) -> None:
        super().__init__(4, 1)

class Says(gradloom.Evaluator, type="guarded_says"):
    """Tells a secret."""

    x: gradloom.Read
    token: str = ""

    def forward(self, x): ...

    def compute(self):
        return {"guarded_says": 1.0}

    def protocol(self):
        return f"by {self.token}"
'''

INCLUDED = f"""
plugins: [plugin.py]
datasets:
  train: {{mode: guarded, access_key: {FROM_INCLUDE}, batch_size: 4}}
"""

OPTIONS = f"""
name: guarded
include: inner.yml
datasets:
  train:
    report: REPORT
    api_token: "{FROM_FILE}"   # {FROM_FILE} was made in May, {FROM_INCLUDE} in June
    login: {{user: me, password: 7654321}}
    url: https://me:{FROM_ADDRESS}@host/data
  val: {{mode: guarded, report: REPORT.val, api_token: {FROM_FILE}, access_key: x, login: {{}}, url: ''}}
networks:
  line: {{which_model: guarded_line, api_token: {FROM_FILE}}}
steps:
  fit:
    training: line
    optimizer_params: {{lr: 0.05}}
    injectors:
      guess: {{type: generator, generator: line, in: x, out: guess}}
    losses:
      small: {{type: direct, key: guess}}
eval:
  evaluators:
    says: {{type: guarded_says, x: x, token: {FROM_FILE}}}
train: {{niter: 2}}
path: {{experiments_root: RUNS}}
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "inner.yml").write_text(INCLUDED)
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS.replace("REPORT", str(tmp_path / "given.json")).replace("RUNS", str(tmp_path / "runs")))
    return file


def run(options: Path, *overrides: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", "-opt", str(options), *arguments]
    command += ["--set", *overrides] if overrides else []
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def tells(text: str | bytes) -> list[str]:
    """The secrets in a text."""
    found = text if isinstance(text, bytes) else text.encode()
    return [secret for secret in SECRETS if secret.encode() in found]


def told_in(folder: Path) -> dict[str, list[str]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return {str(file): secrets for file in files if (secrets := tells(file.read_bytes()))}


def test_a_run_tells_its_secrets_to_its_dataset_only(options: Path) -> None:
    done = run(options, f"datasets.train.private_key='{FROM_SET}'")
    assert done.returncode == 0, done.stderr
    given = json.loads((options.parent / "given.json").read_text())
    address = f"https://me:{FROM_ADDRESS}@host/data"
    assert given == [FROM_FILE, FROM_INCLUDE, {"user": "me", "password": 7654321}, address, FROM_SET]
    assert tells(done.stdout + done.stderr) == []
    folder = options.parent / "runs" / "guarded"
    assert told_in(options.parent / "runs") == {}
    assert (folder / "checkpoints" / "2" / "line.safetensors").exists()
    assert "by ***" in (folder / "metrics.jsonl").read_text()
    command = json.loads((folder / "environment.json").read_text())["command"]
    assert command[-1] == "datasets.train.private_key=***"
    given_lines, told_lines = (file.read_text().splitlines() for file in (options, folder / "options.yml"))
    changed = [told for given, told in zip(given_lines, told_lines, strict=True) if given != told]
    assert [line.strip() for line in changed] == [
        "api_token: '***'   # *** was made in May, *** in June",
        "login: {user: me, password: '***'}",
        "url: https://me:***@host/data",
        f"val: {{mode: guarded, report: {options.parent / 'given.json.val'}, api_token: '***', access_key: '***', "
        "login: {}, url: ''}",
        "line: {which_model: guarded_line, api_token: '***'}",
        "says: {type: guarded_says, x: x, token: '***'}",
    ]
    resolved = read(folder / "options.resolved.yml").root
    assert resolved is not None
    assert resolved.fields["datasets"].fields["train"].fields["private_key"].value == "***"


def test_what_cannot_be_masked_in_place_is_not_told_either(options: Path) -> None:
    key = f"private_key: |\n      -----BEGIN-----\n      {BROKEN_OFF}\n    login:"
    options.write_text(options.read_text().replace("login:", key, 1))
    done = run(options)
    assert done.returncode == 0, done.stderr
    assert json.loads((options.parent / "given.json").read_text())[-1] == f"-----BEGIN-----\n{BROKEN_OFF}\n"
    assert told_in(options.parent / "runs") == {}
    text = (options.parent / "runs" / "guarded" / "options.yml").read_text()
    assert text.startswith("# The text as given holds secrets")
    assert read(options.parent / "runs" / "guarded" / "options.yml").faults == []


@pytest.mark.parametrize(("when", "workers"), [("early", 0), ("late", 1)])
def test_errors_quote_no_secret(options: Path, when: str, workers: int) -> None:
    more = (f"datasets.train.fails={when}", f"datasets.train.n_workers={workers}")
    done = run(options, f"datasets.train.private_key='{FROM_SET}'", *more)
    assert done.returncode == {"early": 2, "late": 1}[when]
    assert {"early": "the server refuses", "late": "the server forgot"}[when] in done.stderr
    assert tells(done.stdout + done.stderr) == []
    assert not (options.parent / "runs").exists() or told_in(options.parent / "runs") == {}


def test_faults_quote_no_secret(options: Path) -> None:
    broken = [f"networks.line.api_token=['{FROM_SET}']", f"train={{niter: 1, api_token: '{FROM_SET}'}}"]
    done = run(options, *broken, arguments=("--check",))
    assert done.returncode == 2
    assert "networks.line.api_token: expected a word, got the list ['***']" in done.stderr
    assert "--set train={niter: 1, api_token: ***}: train.api_token: unknown option" in done.stderr
    assert tells(done.stdout + done.stderr) == []


def test_a_plan_is_shown_without_secrets(options: Path) -> None:
    done = run(options, arguments=("--show", "listing"))
    assert done.returncode == 0, done.stderr
    assert tells(done.stdout + done.stderr) == []
    assert "line = guarded_line(api_token=***)" in done.stdout
