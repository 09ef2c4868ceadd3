"""Images drawn from networks whose answers are known."""

import pytest
import torch
from torch import nn

from gradloom.config.binding import make
from gradloom.config.source import parse
from gradloom.injectors._diffusion import DiffusionArgs
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.injectors.gaussian_diffusion_inference import GaussianDiffusionInference

COUNT = 40
SCHEDULE = BetaSchedule("linear", COUNT)
LEFT = torch.cumprod(1 - SCHEDULE.betas(), 0)


def injector(mean="start_x", variance="fixed_small", guided=None, **more):
    args = DiffusionArgs(mean, variance, **(guided or {}))
    if "output_shape" not in more:
        more = {"model_input_keys": {"low_res": "lq"}, "output_scale_factor": 2} | more
    part = GaussianDiffusionInference(generator="g", beta_schedule=SCHEDULE, diffusion_args=args, out="out", **more)
    part.setup()
    return part


class Painter(nn.Module):
    """Knows what it is to draw: its input, enlarged, times a number; counts how often it was asked."""

    def __init__(self, factor=0.5, epsilon=False):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(factor, dtype=torch.float64))
        self.dropout, self.epsilon = nn.Dropout(0.9), epsilon
        self.seen, self.grad, self.free = [], False, 0

    def forward(self, x, timesteps, low_res=None, conditioning_free=False):
        self.seen.append(None if x.is_meta else timesteps[0].item())
        self.first = x if len(self.seen) == 1 else self.first
        self.grad, self.free = self.grad or torch.is_grad_enabled(), self.free + conditioning_free
        image = torch.zeros_like(x) if low_res is None else low_res.repeat_interleave(2, 2).repeat_interleave(2, 3)
        image = self.dropout(image * self.scale * (0 if conditioning_free else 1))
        if not self.epsilon:
            return image
        left = LEFT[timesteps].reshape(-1, 1, 1, 1)
        return (x - left.sqrt() * image) / (1 - left).sqrt()


def low_res(size=3):
    torch.manual_seed(1)
    return torch.rand(size, 3, 2, 3, dtype=torch.float64) * 2 - 1


def enlarged(x, factor=0.5):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3) * factor


@pytest.mark.parametrize("epsilon", [False, True])
@pytest.mark.parametrize("more", [{}, {"use_ddim": True, "respaced_timestep_spacing": 10}])
def test_a_network_that_knows_the_image_gets_it_drawn(epsilon, more):
    part = injector("epsilon" if epsilon else "start_x", **more)
    network, x = Painter(epsilon=epsilon), low_res()
    drawn = part(generator=network, model_input_keys={"low_res": x})
    torch.testing.assert_close(drawn, enlarged(x), rtol=1e-6, atol=1e-9)
    steps = range(0, COUNT, 4) if more else range(COUNT)
    assert network.seen == [*reversed(steps)] and not network.grad


def test_fewer_timesteps_are_visited_from_the_last_to_the_first():
    network = Painter()
    injector(respaced_timestep_spacing=3)(generator=network, model_input_keys={"low_res": low_res()})
    assert network.seen == [39, 20, 0]


def test_networks_stay_in_the_mode_they_were_in():
    network, x = Painter(), low_res()
    network.train()
    network.dropout.eval()
    injector()(generator=network, model_input_keys={"low_res": x})
    assert network.training and not network.dropout.training
    network.dropout.train()
    injector()(generator=network, model_input_keys={"low_res": x})
    assert network.dropout.training
    with pytest.raises(TypeError):
        injector()(generator=network, model_input_keys={"low_res": x, "unknown": 1})
    assert network.training and network.dropout.training


def test_images_are_kept_in_range_and_brought_to_another():
    x = low_res()
    drawn = injector(undo_n1_to_1=True)(generator=Painter(3.0), model_input_keys={"low_res": x})
    torch.testing.assert_close(drawn, (enlarged(x, 3.0).clamp(-1, 1) + 1) / 2, rtol=1e-6, atol=1e-9)


def test_no_more_samples_are_drawn_than_there_are():
    for count, expected in ((2, 2), (9, 3), (None, 3)):
        drawn = injector(output_batch_size=count)(generator=Painter(), model_input_keys={"low_res": low_res()})
        assert drawn.shape == (expected, 3, 4, 6)


def test_constants_reach_the_network_as_they_are():
    part = injector(model_input_keys={"low_res": "lq", "conditioning_free": True}, output_batch_size=1)
    network = Painter()
    drawn = part(generator=network, model_input_keys={"low_res": low_res(), "conditioning_free": True})
    assert network.free == COUNT and not drawn.any()


def test_the_noise_that_sampling_starts_from():
    x, network = low_res(), Painter()
    injector(noise_type="zero")(generator=network, model_input_keys={"low_res": x})
    assert not network.first.any()
    starts = []
    for kind in ("fixed", "fixed", "random", "random"):
        network = Painter()
        injector(noise_type=kind)(generator=network, model_input_keys={"low_res": x})
        starts.append(network.first)
    assert starts[0].equal(starts[1]) and not starts[2].equal(starts[3])
    assert torch.cat(starts).std().item() == pytest.approx(1, abs=0.15)


def test_without_an_input_images_of_a_given_shape_are_drawn():
    network = Painter()
    part = injector(output_shape=(3, 4, 4), output_batch_size=5)
    drawn = part(generator=network, model_input_keys={})
    assert drawn.shape == (5, 3, 4, 4) and drawn.dtype == torch.float64 and not drawn.any()


@pytest.mark.parametrize("ramp", [False, True])
def test_guidance_goes_on_from_the_free_prediction_past_the_other(ramp):
    part = injector(guided={"conditioning_free": True, "conditioning_free_k": 2.0, "ramp_conditioning_free": ramp})
    network, x = Painter(0.1), low_res()
    t = torch.tensor([10, 20, 39])
    network.eval()
    estimate = part.asked(network, torch.zeros(3, 3, 4, 6, dtype=torch.float64), t, {"low_res": x})
    k = 2.0 * (1 - t / COUNT).double().reshape(-1, 1, 1, 1) if ramp else 2.0
    torch.testing.assert_close(estimate.x_start, (1 + k) * enlarged(x, 0.1), rtol=1e-6, atol=1e-9)
    assert network.free == 1


def test_a_learned_variance_decides_how_much_is_drawn():
    class Sure(nn.Module):
        def forward(self, x, timesteps, low_res):
            return torch.cat([x * 0, torch.full_like(x, -40.0)], 1)

    part = injector("previous_x", "learned")
    drawn = part(generator=Sure(), model_input_keys={"low_res": low_res()})
    assert drawn.abs().max() < 1e-6


def test_use_ema_names_the_average():
    assert injector(use_ema=True).networks() == ("g.ema",)
    assert injector().networks() == ("g",)


def test_half_precision_is_sampled_in_full():
    class Half(nn.Module):
        def forward(self, x, timesteps, low_res):
            assert x.dtype == torch.float32
            return (x * 0).bfloat16()

    drawn = injector()(generator=Half(), model_input_keys={"low_res": low_res().bfloat16()})
    assert drawn.dtype == torch.float32


@pytest.mark.parametrize("noise", ["random", "zero", "fixed"])
@pytest.mark.parametrize("more", [{}, {"use_ddim": True, "respaced_timestep_spacing": 10}])
def test_without_values_one_timestep_tells_all_shapes(noise, more):
    part, network = injector(noise_type=noise, **more).to("meta"), Painter().to("meta")
    drawn = part(generator=network, model_input_keys={"low_res": torch.empty(2, 3, 2, 3, device="meta")})
    assert drawn.shape == (2, 3, 4, 6) and drawn.is_meta and len(network.seen) == 1


OPTIONS = """
type: gaussian_diffusion_inference
generator: g
beta_schedule: {schedule_name: linear, num_diffusion_timesteps: 100}
diffusion_args: {model_mean_type: epsilon, model_var_type: learned_range}
out: sample
"""
SCALED = "model_input_keys: {low_res: lq, corruption_factor: c}\noutput_scale_factor: 2\n"


def read(text):
    node, faults = parse(OPTIONS + text, "x.yml")
    part = make(GaussianDiffusionInference, node, faults, {"type"})
    return part, [str(fault) for fault in faults]


def test_options_of_a_file():
    part, faults = read(SCALED + "output_batch_size: 8\nuse_ema: true\nnoise_type: fixed\nundo_n1_to_1: true")
    assert not faults and part.reads() == ("lq", "c") and part.writes() == ("sample",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model_input_keys: {low_res: lq}", "'output_scale_factor' and 'low_res' among 'model_input_keys' need one"),
        ("model_input_keys: {spectrogram: s}", "x.yml:7:1: model_input_keys: 'model_input_keys' has a spectrogram"),
        ("output_shape: [3, 8, 8]", "'output_batch_size' is missing; without 'low_res' nothing says how many"),
        ("", "'output_shape' is for sampling without 'low_res', where it is needed"),
        (SCALED + "use_ddim: true", "x.yml:9:1: use_ddim: 'use_ddim' needs 'respaced_timestep_spacing', the number"),
        (
            SCALED + "use_ddim: true\nrespaced_timestep_spacing: 30",
            "x.yml:10:1: respaced_timestep_spacing: 'respaced_timestep_spacing' 30: with 'use_ddim' the 100 timesteps "
            "are passed at one distance, and none passes 30 of them; write 25",
        ),
        (SCALED + "respaced_timestep_spacing: 101", "'respaced_timestep_spacing' 101 is more than there are timesteps"),
        (SCALED + "ddim_eta: 1", "x.yml:9:1: ddim_eta: 'ddim_eta' is for DDIM; write 'use_ddim: true' too"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(text, fault):
    _, faults = read(text)
    assert len(faults) == 1 and fault in faults[0]
