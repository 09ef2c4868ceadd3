"""What is wrong with data, with weights to start from and with files that parts need, found before training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import gradloom
from gradloom.evaluators import _inception
from looking import lines, looked, only
from making import GAN, MLP


def text(data: str, more: str = "") -> str:
    data = data if "batch_size" in data else data.replace("}", ", batch_size: 1}", 1)
    return f"{GAN}\n    datasets: {{train: {data}}}\n{more}"


def said(data: str, *overrides: str) -> str:
    options = text(data)
    return only(looked(options.replace("in: z,", "in: lq,") if "imagefolder" in data else options, *overrides).faults)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert said(f"{{mode: imagefolder, paths: {tmp_path}/none}}").startswith(
        f"datasets.train: {tmp_path}/none is not a folder"
    )


def test_a_folder_without_images(tmp_path: Path) -> None:
    assert said(f"{{mode: imagefolder, paths: {tmp_path}}}").startswith(f"datasets.train: {tmp_path} holds no images")


def test_a_set_without_samples() -> None:
    assert said("{mode: test_samples, kind: gan, length: 0}") == "datasets.train: test_samples holds no sample"


def test_a_batch_larger_than_the_set() -> None:
    assert said("{mode: test_samples, kind: gan, length: 7, batch_size: 8}") == (
        "datasets.train.batch_size: a batch of 8 needs as many samples, but there are 7; lower it, or write "
        "'drop_last: false'"
    )


def test_no_data_to_train_on() -> None:
    assert only(looked(GAN).faults) == ": there is no dataset to train on; add datasets.train"


def test_a_sample_that_cannot_be_read_is_a_fault_unless_some_may_be() -> None:
    assert said("{mode: test_samples, kind: gan, bad: 1}") == (
        "datasets.train: sample 0 cannot be used: OSError: file 0 is truncated"
    )
    report = looked(text("{mode: test_samples, kind: gan, bad: 2, max_bad: 2}"))
    assert lines(report.faults) == []
    assert "sample 0 cannot be used" in only(report.notices)
    assert looked(text("{mode: test_samples, kind: gan, bad: 3, max_bad: 2}")).faults


def test_a_broken_image(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    message = said(f"{{mode: imagefolder, paths: {tmp_path}}}")
    file = tmp_path / "broken.png"
    assert message.startswith(f"datasets.train: sample 0 ({file}) cannot be used: {file} cannot be read")


def test_samples_that_are_no_mappings_or_make_no_batch() -> None:
    assert said("{mode: test_samples, kind: no mapping}") == (
        "datasets.train: a sample is a mapping by key, but sample 0 is a tuple"
    )
    assert said("{mode: test_samples, kind: nothing}").startswith(
        "datasets.train: samples cannot be made a batch: TypeError: default_collate: batch must contain tensors"
    )


def test_a_key_that_is_read_but_not_there_is_said_at_each_reader() -> None:
    options = text("{mode: test_samples, kind: gan}").replace("in: z, out: drawn", "in: zz, out: drawn")
    assert only(looked(options).faults) == (
        "steps.generator_step.injectors.drawn.in: reads 'zz', but a sample of datasets.train holds 'hq', 'z'; "
        "did you mean 'z'?"
    )


def test_what_is_left_out_of_the_plan_may_read_what_is_not_there() -> None:
    options = text("{mode: test_samples, kind: gan}").replace(
        "in: z, out: drawn}", "in: z, out: drawn}\n          more: {type: grey, in: depth, out: unused}"
    )
    report = looked(options)
    assert "unused" in options and lines(report.faults) == lines(report.notices) == []


def test_a_dataset_that_declares_what_it_has_not() -> None:
    assert said("{mode: test_boasting, kind: gan}") == (
        "datasets.train: test_boasting declares 'depth', but a sample holds 'hq', 'z'"
    )


def test_the_report_tells_what_a_sample_holds() -> None:
    report = looked(text("{mode: test_samples, kind: gan, batch_size: 30}"))
    assert report.samples == [
        "train: test_samples, 100 samples in batches of 30, 3 iterations an epoch",
        "  hq (2,) float32 in [-1.00, 1.00]",
        "  z (4,) float32 in [0.00, 0.00]",
    ]
    assert len(report.datasets["train"]) == 100  # type: ignore[arg-type]


MEASURED = """
    eval:
      injectors:
        drawn_again: {type: generator, generator: generator, in: z, out: again}
      evaluators:
        %s
"""
VAL = "{mode: test_samples, kind: gan, batch_size: 4}, val: {mode: test_samples, kind: %s, batch_size: 50, length: 9}"


def measured(evaluator: str, kind: str = "gan") -> str:
    return text(VAL % kind, MEASURED % evaluator)


class Picky(gradloom.Evaluator, type="test_picky"):
    """Takes two columns, and looks at values."""

    x: gradloom.Read

    def reset(self) -> None:
        self.sum = 0.0

    def forward(self, x: torch.Tensor) -> None:
        if x.shape != (9, 2):
            raise gradloom.RunError(f"expected (9, 2), got {tuple(x.shape)}")
        self.sum += float(x.sum())

    def compute(self) -> dict[str, float]:
        return {"sum": self.sum}


def test_evaluators_are_shown_a_batch_of_their_own_set() -> None:
    report = looked(measured("one: {type: test_picky, x: again, for: generator.ema}"))
    assert lines(report.faults) == lines(report.notices) == []  # it looks at values, and is shown zeros
    report = looked(measured("one: {type: test_picky, x: z}"))
    assert only(report.faults) == "eval.evaluators.one: expected (9, 2), got (9, 4); it got x (9, 4)"
    report = looked(measured("one: {type: test_picky, x: hq, samples: 5}"))
    assert only(report.faults) == "eval.evaluators.one: expected (9, 2), got (5, 2); it got x (5, 2)"


def test_an_evaluator_that_needs_more_than_zeros_is_a_notice() -> None:
    class Choosy(gradloom.Evaluator, type="test_choosy"):
        """Refuses zeros."""

        x: gradloom.Read

        def forward(self, x: torch.Tensor) -> None:
            if x.abs().sum() == 0:
                raise ValueError("nothing to see")

        def compute(self) -> dict[str, float]:
            return {}

    report = looked(measured("one: {type: test_choosy, x: again}"))
    assert lines(report.faults) == []
    assert only(report.notices) == (
        "eval.evaluators.one: it may fail, as it does on zeros: nothing to see; it got x (9, 2)"
    )


def test_pictures_of_what_is_no_picture() -> None:
    notice = only(looked(measured("one: {type: grid, images: [again]}")).notices)
    assert notice.startswith("eval.evaluators.one: it may fail, as it does on zeros: IndexError")


def test_what_is_measured_has_to_be_in_the_set() -> None:
    report = looked(measured("one: {type: test_picky, x: again}", "image"))
    assert only(report.faults) == (
        "eval.injectors.drawn_again.in: reads 'z', but a sample of datasets.val holds 'hq', 'lq', 'label', 'path'"
    )


def test_the_weights_of_inception_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    options = text(
        "{mode: test_samples, kind: gan}, val: {mode: test_samples, kind: image}",
        """
    eval: {evaluators: {fid: {type: fid, fake: hq, real: hq}}}
    """,
    )
    file = tmp_path / "checkpoints" / _inception.FILE
    report = looked(options)
    assert only(report.faults).startswith(f"eval.evaluators.fid: no weights of Inception at {file}; download https://")
    report = looked(options, "eval.evaluators.fid.download=true")
    assert lines(report.faults) == []
    assert only(report.notices) == (
        f"eval.evaluators.fid: will download 91 MB from {_inception.URL_INCEPTION_V3} to {file}"
    )
    file.parent.mkdir()
    file.write_bytes(b"")
    report = looked(options)
    assert lines(report.faults) == lines(report.notices) == []


def weights_of(**sizes: int) -> dict[str, torch.Tensor]:
    return MLP(**{"inputs": 4, "outputs": 2, **sizes}).state_dict()


def started_from(file: Path, *overrides: str) -> list[str]:
    options = text("{mode: test_samples, kind: gan}")
    return lines(looked(options, f"path.pretrain_model_generator={file}", *overrides).faults)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    assert started_from(tmp_path / "none.pth") == [
        f"path.pretrain_model_generator: there is no file {tmp_path}/none.pth"
    ]


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "old.pth"])
def test_weights_of_another_network(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights.{suffix}"

    def write(weights: dict[str, torch.Tensor]) -> None:
        if suffix == "safetensors":
            save_file(weights, file)
        else:
            torch.save(weights, file, _use_new_zipfile_serialization=suffix == "pth")

    write(weights_of())
    assert started_from(file) == []
    write(weights_of(inputs=3))
    assert started_from(file) == [
        "path.pretrain_model_generator: the weights do not match the network: 0.weight is (16, 3), not (16, 4)"
    ]
    assert started_from(file, "path.strict_load=false") == []
    write({f"g.{name}": value for name, value in weights_of().items()})
    assert "0.weight is missing" in started_from(file)[0]
    assert started_from(file, "path.pretrain_base_path_generator=g.") == []


def test_an_average_beside_the_weights_has_to_match_too(tmp_path: Path) -> None:
    save_file(weights_of(), tmp_path / "g.safetensors")
    save_file(weights_of(width=8), tmp_path / "g_ema.safetensors")
    assert "the weights do not match the network: 0.weight is (8, 4)" in started_from(tmp_path / "g.safetensors")[0]


def test_a_file_that_holds_no_weights(tmp_path: Path) -> None:
    (tmp_path / "g.pth").write_bytes(b"nothing")
    assert "cannot be read" in started_from(tmp_path / "g.pth")[0]


@pytest.mark.skipif("Muon" not in vars(torch.optim), reason="torch has it from 2.9 on")
def test_an_optimizer_that_cannot_be_built() -> None:
    options = text("{mode: test_samples, kind: gan}").replace("optimizer: adam", "optimizer: muon")
    assert (
        looked(options).faults[0].message.startswith("the optimizer cannot be built: Muon only supports 2D parameters")
    )


def test_a_part_says_what_it_needs() -> None:
    class Needing(gradloom.Loss, type="test_needing"):
        """Needs a file."""

        x: gradloom.Read

        def needs(self) -> list[gradloom.Need]:
            return [gradloom.Need(Path("/nowhere/vgg.pth"), "no weights at /nowhere/vgg.pth; put them there")]

        def setup(self) -> None:
            raise AssertionError("it is not set up")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean()

    options = text("{mode: test_samples, kind: gan}").replace(
        "{type: pix, criterion: l2, real: hq, fake: drawn, weight: 0.1}", "{type: test_needing, x: drawn}"
    )
    assert only(looked(options).faults) == (
        "steps.generator_step.losses.pix: no weights at /nowhere/vgg.pth; put them there"
    )


def test_the_setup_of_a_part_is_tried() -> None:
    class Owning(gradloom.Injector, type="test_owning"):
        """Multiplies by what it owns."""

        x: gradloom.Read
        out: gradloom.Write
        width: int

        def setup(self) -> None:
            if self.width > 9:
                raise ValueError("too wide")
            self.table = nn.Linear(self.width, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(x)  # type: ignore[no-any-return]

    drawn = "drawn: {type: generator, generator: generator, in: z, out: drawn}"
    more = f"{drawn}\n          own: {{type: test_owning, x: drawn, out: own, width: %d}}"
    options = text("{mode: test_samples, kind: gan}").replace("fake: drawn", "fake: own")
    assert drawn in options
    found = {width: lines(looked(options.replace(drawn, more % width)).faults) for width in (2, 3, 10)}
    assert found[2] == []
    assert "2 columns meet 3 rows" in found[3][0] and found[3][0].startswith("steps.generator_step.injectors.own: ")
    assert found[10] == ["steps.generator_step.injectors.own: too wide"]
