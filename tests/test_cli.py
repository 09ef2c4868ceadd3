"""The command line as its users call it: exit codes, what is printed where, and what has been imported by then."""

import builtins
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradloom import cli

ROOT = Path(__file__).resolve().parents[1]
SOUND = ROOT / "tests" / "faults" / "parts" / "sound.yml"
MISSPELT = "name: x\nnetworks: {}\nsteps: {}\ntrain: {niters: 10}\n"


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_package_is_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradloom", "-opt", "none.yml"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("none.yml: cannot read none.yml")


@pytest.mark.parametrize("folder", [ROOT, ROOT / "codes"], ids=["root", "codes"])
def test_a_sound_file_is_checked_from_either_folder(folder: Path) -> None:
    done = run("-opt", SOUND, "--check", cwd=folder)
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, f"{SOUND}: no faults", "")


@pytest.mark.parametrize("folder", [ROOT, ROOT / "codes"], ids=["root", "codes"])
def test_a_broken_file_is_refused_from_either_folder_without_importing_torch_first(folder: Path) -> None:
    """Every fault of this file is found without torch, and told with its place."""
    done = run("-opt", ROOT / "tests" / "faults" / "yaml_tab.yml", "--check", cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    message, count = done.stderr.splitlines()
    assert message.endswith("yaml_tab.yml:3:1: not YAML: found character '\\t' that cannot start any token; "
                            "indent by spaces, not tabs")  # fmt: skip
    assert count == "1 fault; nothing was run"


def called(*arguments: object) -> int:
    return cli.main([*map(str, arguments)])


def test_every_fault_is_printed_once_those_found_without_torch_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.yml"
    file.write_text(SOUND.read_text().replace("niter: 10", "niters: 10").replace("in: hq, shape", "in: hqq, shape"))
    assert called("-opt", file, "--check") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{file}:26:9: train.niters: unknown option; did you mean 'niter'?",
        f"{file}:16:28: steps.generator_step.injectors.noise.in: reads 'hqq', which nothing before it writes; "
        "did you mean 'hq'?",
        "2 faults; nothing was run",
    ]


class Stopped(BaseException):
    """Nothing goes on after it."""


def test_what_needs_no_torch_is_printed_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first import of the compiler, which brings torch, stops here."""
    original = builtins.__import__

    def stopping(name: str, *rest: Any) -> Any:
        if name.startswith("gradloom.plan"):
            raise Stopped
        return original(name, *rest)

    file = tmp_path / "x.yml"
    file.write_text(MISSPELT)
    monkeypatch.setattr(builtins, "__import__", stopping)
    with pytest.raises(Stopped):
        called("-opt", file, "--check")
    assert capsys.readouterr().err == f"{file}:4:9: train.niters: unknown option; did you mean 'niter'?\n"


def test_torch_is_not_loaded_when_the_first_faults_are_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(MISSPELT)
    script = f"""
import sys
from gradloom import cli

class Watching:
    def write(self, text):
        assert "torch" not in sys.modules, text
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        raise SystemExit(9)
    def flush(self): ...

sys.stderr = Watching()
cli.main(["-opt", {str(file)!r}, "--check"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "codes", capture_output=True, text=True, check=False
    )
    assert done.returncode == 9
    assert done.stdout.startswith(f"{file}:4:9: train.niters: unknown option")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.niter=ten"], "--set train.niter=ten: train.niter: expected a whole number, got str 'ten'"),
        (["--set", "train.niter=1", "train.x=2"], "--set train.x=2: train.x: unknown option; known: "),
        (["--set", "train.niter"], "--set train.niter: expected a path, '=' and a value, such as train.niter=10"),
        (["--set", "name=a/b"], "--set name=a/b: name: a name is one folder"),
    ],
)
def test_overrides_are_judged_like_the_file(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("-opt", SOUND, "--check", *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_override_takes_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        called("-opt", SOUND, "--show", "listing", "--set", "train.niter=7", "name=other", "--set", "precision=bf16")
        == 0
    )
    assert capsys.readouterr().out.splitlines()[0] == "# other: 7 iterations, bf16"


def test_the_plan_is_shown_as_a_program_or_as_a_graph(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("-opt", SOUND, "--show", "listing") == 0
    assert "    fake = generator(generator, z)" in capsys.readouterr().out.splitlines()
    assert called("train", "-opt", SOUND, "--show", "graph") == 0
    assert capsys.readouterr().out.splitlines()[0] == "flowchart LR"


def test_notices_are_told_and_refuse_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("-opt", SOUND, "--check", "--set", "model=extensibletrainer") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"{SOUND}: no faults"
    assert err == ("notice: --set model=extensibletrainer: model: dropped: every run is trained by the one trainer\n")


@pytest.mark.parametrize("arguments", [("check", "-opt", SOUND), ("-opt", SOUND, "--check")])
def test_checking_says_what_a_run_will_take(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "train: random_dataset, 1,048,576 samples in batches of 1, 1,048,576 iterations an epoch"
    assert "generator: dcgan_generator, 165 parameters, all trained, 684 bytes" in told
    assert [line.partition(":")[0] for line in told[-4:]] == [
        "memory", "to average over processes", "checkpoints", str(SOUND),
    ]  # fmt: skip


def test_checking_tells_what_would_go_wrong_and_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("check", "-opt", SOUND, "--set", "networks.discriminator.channels=3", "datasets.train.length=0") == 2
    capsys.readouterr()
    overrides = ["networks.discriminator.channels=3", "datasets.train.length=2", "datasets.train.batch_size=4"]
    assert called("check", "-opt", SOUND, "--set", *overrides) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()
    assert said[0] == (
        "--set datasets.train.batch_size=4: datasets.train.batch_size: a batch of 4 needs as many samples, but there "
        "are 2; lower it, or write 'drop_last: false'"
    )
    assert said[1].startswith(
        f"{SOUND}:19:7: steps.generator_step.losses.fool: expected images of shape (B, 3, 8, 8), got (4, 1, 8, 8)"
    )
    assert said[2].startswith(f"{SOUND}:24:7: steps.discriminator_step.losses.tell: expected images of shape")
    assert said[3] == "3 faults; nothing was run"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("-opt", tmp_path / "none.yml", "--check") == 2
    missing = tmp_path / "none.yml"
    assert capsys.readouterr().err.splitlines()[0] == f"{missing}: cannot read {missing}: No such file or directory"


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yml").write_text("größe: 1\n", encoding="utf-8")
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stderr)
    assert cli.main(["-opt", str(tmp_path / "x.yml")]) == cli.REFUSED
    stderr.seek(0)
    assert "gr\\xf6\\xdfe: unknown option" in stderr.read()


def test_an_unsafe_yaml_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "it_ran"
    file = tmp_path / "x.yml"
    attacks = [
        f"name: !!python/object/apply:os.system ['touch {trace}']",
        f"name: !!python/object/apply:subprocess.check_call [[touch, {trace}]]",
        f"name: !!python/object/new:os.system ['touch {trace}']",
        f"? !!python/object/apply:os.system ['touch {trace}']\n: 1",
        f"train: {{niter: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{trace}]]}}",
        f"<<: !!python/object/apply:os.system ['touch {trace}']",
    ]
    for attack in attacks:
        file.write_text(f"{SOUND.read_text().replace('name: sound', '')}\n{attack}\n")
        assert called("-opt", file, "--check") == 2
    for text in (f"!!python/object/apply:os.system ['touch {trace}']", f"__import__('os').system('touch {trace}')"):
        assert called("-opt", SOUND, "--check", "--set", f"name={text}") == 2
    assert not trace.exists()
    assert "is not allowed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--check"], ["-opt"], ["-opt", SOUND, "--show", "picture"]])
def test_a_wrong_call_is_explained_and_exits_with_two(
    arguments: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        called(*arguments)
    assert exited.value.code == 2
    assert "usage: gradloom [train | check | smoke | profile | test | process_video]" in capsys.readouterr().err


def test_a_text_that_says_something_twice_is_refused_before_the_rest_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "twice.yml"
    file.write_text("name: x\ntrain: {niter: 1}\ntrain: {niter: 2}\nnetworks: {a: {which_model: nothing}}\nsteps: {}\n")
    assert called("-opt", file, "--check") == 2
    assert capsys.readouterr().err == (
        f"{file}:3:1: train: written twice, first in line 2; keep one\n1 fault; nothing was run\n"
    )


LOST = """
import atexit, os, sys
from types import SimpleNamespace
from gradloom import cli
from gradloom.errors import LostTouch

def work():
    raise LostTouch("the other is gone")

atexit.register(os.abort)  # as torch's threads may, with a peer gone
sys.exit(cli._guarded(SimpleNamespace(document=SimpleNamespace(told=str)), work))
"""


def test_who_lost_touch_with_the_others_leaves_before_anything_can_abort_it() -> None:
    ended = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (1, "failed: the other is gone\n")


def test_ctrl_c_before_a_run_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def pressed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_compile_and_run", pressed)
    assert called("-opt", SOUND) == 130
    assert capsys.readouterr() == ("", "stopped by Ctrl-C\n")


def test_nobody_has_to_read_what_is_printed() -> None:
    """As with `| head`, after which Python would end with 120."""
    reading, writing = os.pipe()
    os.close(reading)
    printing = "cli._train = lambda *_: [print(number) for number in range(10000)]"
    program = f"import sys; from gradloom import cli; {printing}; sys.exit(cli.main(['-opt', {str(SOUND)!r}]))"
    assert subprocess.call([sys.executable, "-c", program], stdout=writing) == 0
    os.close(writing)


@pytest.mark.parametrize("words", [["check"], ["--check"], ["smoke"], ["profile"], ["--show", "listing"]])
@pytest.mark.parametrize("more", [["--resume"], ["--resume", "auto"], ["--allow-changes"]])
def test_what_goes_on_with_no_run_takes_no_checkpoint(
    words: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "-opt", str(SOUND), *more])
    assert left.value.code == 2
    assert "goes on with no run; leave out --resume and --allow-changes" in capsys.readouterr().err


def test_a_resume_that_names_nothing_is_no_new_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(["-opt", str(SOUND), "--resume", ""])
    assert refused.value.code == 2
    assert "--resume names nothing; write a checkpoint's folder, 'auto', or --resume alone" in capsys.readouterr().err
