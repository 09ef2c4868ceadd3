"""Python files that options bring in, and the names that they may take."""

import pickle
import sys
from pathlib import Path

import pytest
import torch

import gradloom
from gradloom.engine.data.samples import Seeded
from gradloom.parts import Injector
from gradloom.plan import plugins
from gradloom.registry import Registry
from plan.planning import load, refused

SOUND = (Path(__file__).parents[1] / "faults" / "parts" / "sound.yml").read_text()
HALVE = '''
"""A part of one's own."""

import gradloom


class Halve(gradloom.Injector, type="{name}"):
    """Halves a key."""

    in_: gradloom.Read
    out: gradloom.Write

    def forward(self, in_):
        return in_ / 2
'''


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    Injector.registry.discover()  # what is imported later would be forgotten too, though its module stays
    monkeypatch.setattr(Injector.registry, "classes", dict(Injector.registry.classes))


def test_a_file_is_brought_in_once_and_its_parts_are_known(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HALVE.format(name="halve_it"))
    halved = "steps.generator_step.injectors.halved={type: halve_it, in: fake, out: halved}"
    for _ in range(2):
        plan = load(tmp_path, f"plugins: [mine.py]\n{SOUND}", halved)
        assert plan.steps[0].injectors[-1].part.type_name == "halve_it"


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "mine.py").write_text(HALVE.format(name="halve_inside"))
    (tmp_path / "inner" / "base.yml").write_text("plugins: [mine.py]")
    halved = "steps.generator_step.injectors.halved={type: halve_inside, in: fake, out: halved}"
    assert load(tmp_path, f"include: inner/base.yml\n{SOUND}", halved).name == "sound"


def test_a_module_is_brought_in_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package_of_parts.py").write_text(HALVE.format(name="halve_package"))
    monkeypatch.syspath_prepend(tmp_path)
    load(tmp_path, f"plugins: [my_package_of_parts]\n{SOUND}")
    assert "my_package_of_parts" in sys.modules
    assert "halve_package" in Injector.registry.classes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", "cannot be brought in: SyntaxError: invalid syntax (mine.py, line 1)"),
        ("import gradloom\n\n\nraise ValueError('no luck')", "cannot be brought in: ValueError: no luck (line 4)"),
        ("import sys\nsys.exit(3)", "cannot be brought in: SystemExit: 3 (line 2)"),
        ("import no_such_library", "cannot be brought in: ModuleNotFoundError: No module named 'no_such_library' (line 1)"),
        (HALVE.format(name="noise"), "cannot be brought in: TypeError: Halve: 'noise' is the name of Gradloom's own "
         "injector; choose another (line 7)"),
        (HALVE.format(name="x").replace("(self, in_)", "(self, value)"), "cannot be brought in: TypeError: "
         "Halve.forward takes ['value'], its ports are ['in_'] (line 7)"),
    ],
)  # fmt: skip
def test_whatever_a_plugin_raises_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert refused(tmp_path, f"plugins: [mine.py]\n{SOUND}") == [f"x.yml:1:11: plugins[0]: {message}"]


def test_a_plugin_that_failed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ValueError('not yet')")
    assert refused(tmp_path, f"plugins: [mine.py]\n{SOUND}")
    (tmp_path / "mine.py").write_text(HALVE.format(name="halve_later"))
    assert refused(tmp_path, f"plugins: [mine.py]\n{SOUND}") == []


def halved(plan: gradloom.Plan) -> float:
    return float(plan.steps[0].injectors[-1].part(in_=torch.ones(())))


USED = "steps.generator_step.injectors.halved={type: halve_again, in: fake, out: halved}"


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    for divisor in (2, 4):
        (tmp_path / "mine.py").write_text(HALVE.format(name="halve_again").replace("/ 2", f"/ {divisor}"))
        assert halved(load(tmp_path, f"plugins: [mine.py]\n{SOUND}", USED)) == 1 / divisor


def test_two_folders_may_have_plugins_of_one_name_in_turn(tmp_path: Path) -> None:
    for divisor in (2, 4):
        (tmp_path / str(divisor)).mkdir()
        text = HALVE.format(name="halve_again").replace("/ 2", f"/ {divisor}")
        (tmp_path / str(divisor) / "mine.py").write_text(text)
    for divisor in (2, 4, 2):
        assert halved(load(tmp_path / str(divisor), f"plugins: [mine.py]\n{SOUND}", USED)) == 1 / divisor


def test_two_plugins_of_one_file_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(HALVE.format(name="halve_again"))
    assert refused(tmp_path, f"plugins: [one.py, two.py]\n{SOUND}", USED) == [
        "x.yml:1:19: plugins[1]: one.py has the injector 'halve_again' too; name one of them otherwise"
    ]


def test_names_of_a_plugin_that_failed_are_not_told_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ValueError('not yet')")
    told = refused(tmp_path, f"plugins: [mine.py]\n{SOUND}", USED, "train.niter=few")
    assert [line.partition(": ")[2].partition(":")[0] for line in told] == ["train.niter", "plugins[0]"]


@pytest.mark.parametrize(
    ("name", "meant"), [("mine", "mine.py"), ("pack", "pack/__init__.py"), ("./pack/", "./pack/__init__.py")]
)
def test_a_file_named_as_a_module_is_told(tmp_path: Path, name: str, meant: str) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (told,) = refused(tmp_path, f"plugins: [{name}]\n{SOUND}")
    assert told.endswith(f"; write {meant}")
    assert refused(tmp_path, f"plugins: [{meant}]\n{SOUND}") == []


def test_files_of_a_folder_import_one_another(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from . import mine")
    (tmp_path / "pack" / "by.py").write_text("DIVISOR = 8")
    text = HALVE.format(name="halve_again").replace("/ 2", "/ DIVISOR")
    (tmp_path / "pack" / "mine.py").write_text(
        text.replace("import gradloom\n", "import gradloom\nfrom .by import DIVISOR\n", 1)
    )
    assert halved(load(tmp_path, f"plugins: [pack/__init__.py]\n{SOUND}", USED)) == 1 / 8


def test_a_class_registered_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r'@register stands without a name before Tool; write @register\("a_name"\)'):
        Registry[object]("tool").register(Tool)  # type: ignore[arg-type]


def test_faults_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    with pytest.raises(gradloom.OptionsError) as refused:
        load(tmp_path, SOUND, "train.niter=few")
    assert pickle.loads(pickle.dumps(refused.value)).faults == refused.value.faults


def test_no_dotted_name_elsewhere_imports_anything(tmp_path: Path) -> None:
    (tmp_path / "ran.py").write_text("open('ran.txt', 'w').close()")
    for override in ("networks.generator.which_model=ran", "steps.generator_step.injectors.noise.type=ran.ran"):
        assert refused(tmp_path, SOUND, override)
    assert "ran" not in sys.modules


class Tool:
    """A class to register."""


@pytest.mark.parametrize("imported", [True, False])
def test_a_name_of_gradlooms_own_is_taken_whether_or_not_it_has_been_imported(
    imported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not imported:
        monkeypatch.delitem(sys.modules, "gradloom.injectors.grey")
        del Injector.registry.classes["grey"]
    with pytest.raises(TypeError, match="Tool: 'grey' is the name of Gradloom's own injector; choose another"):
        Injector.registry.add("grey", Tool)


def test_a_class_is_registered_under_any_other_name() -> None:
    registry = Registry[object]("injector", "gradloom.injectors")
    assert registry.register("tool")(Tool) is Tool
    assert registry.find("tool") is Tool


def test_a_later_definition_of_ones_own_replaces_the_earlier() -> None:
    registry = Registry[object]("tool")
    registry.add("tool", int)
    registry.add("tool", Tool)
    assert registry.find("tool") is Tool
    assert registry.find("other") is None
    assert registry.discover() == ["tool"]


def test_a_module_whose_library_is_absent_is_named_in_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "things_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "present.py").write_text("")
    (package / "absent.py").write_text("import a_library_that_is_not_there.part")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry[object]("thing", "things_of_mine")
    from gradloom.config.source import parse

    node, _ = parse("type: absent", "x.yml")
    assert node is not None
    faults: list[gradloom.Fault] = []
    assert registry.choose(node, "type", faults) is None
    assert [str(fault) for fault in faults] == [
        "x.yml:1:1: type: no thing is called 'absent'; it needs the library 'a_library_that_is_not_there', which is not "
        "installed"
    ]


DATASET = """
import gradloom


@gradloom.datasets.register("counted")
class Counted:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index
"""


def test_a_process_that_is_not_forked_gets_the_plugins_with_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "_brought", {})
    (tmp_path / "counted.py").write_text(DATASET)
    (tmp_path / "gone.py").write_text(HALVE.format(name="halve_gone"))
    load(tmp_path, f"plugins: [counted.py, gone.py]\n{SOUND}")
    (name,) = (name for name in plugins._brought if "counted" in name)
    sent = pickle.dumps(Seeded(sys.modules[name].Counted(), seed=5))
    (tmp_path / "gone.py").unlink()
    plugins._brought.clear()  # as it is elsewhere
    monkeypatch.delitem(sys.modules, name)
    seeded = pickle.loads(sent)
    assert (seeded.seed, seeded.dataset[3]) == (5, 3)
    assert type(seeded.dataset) is sys.modules[name].Counted
