"""Names of the ancestor's that are known and refused."""

import pytest

from gradloom.config.left_out import why_left_out
from gradloom.parts import Evaluator, Injector, Loss, datasets, networks
from gradloom.plan.optimizers import lr_schemes
from gradloom.registry import Registry

REGISTRIES: list[Registry[object]] = [
    Injector.registry,
    Loss.registry,
    Evaluator.registry,
    networks,
    datasets,
    lr_schemes,
]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_nothing_that_is_there_is_left_out(registry: Registry[object]) -> None:
    assert not [name for name in registry.discover() if why_left_out(registry.kind, name)]


@pytest.mark.parametrize(("kind", "name"), [
    ("injector", "mel_spectrogram"), ("injector", "music_cheater_ar"), ("loss", "nv_tacotron2_loss"),
    ("evaluator", "wer"), ("network", "diffusion_tts7"), ("network", "transformer_diffusion_tts2"),
    ("network", "unet_diffusion_waveform_gen3"), ("network", "wav2vec_feature_extractor"),
    ("network", "voice_to_voice_clip"), ("dataset", "unsupervised_audio_with_noise"),
])  # fmt: skip
def test_the_names_of_audio_are_known(kind: str, name: str) -> None:
    assert (why_left_out(kind, name) or "").startswith("the ancestor's is for audio, which is left out")


def test_other_reasons_and_other_kinds() -> None:
    assert (why_left_out("network", "unified_voice2") or "").startswith("the ancestor's is for speech or text")
    assert (why_left_out("network", "spinenet_with_logits") or "").startswith("it was a trial of the ancestor's")
    assert (why_left_out("loss", "wgan_gp") or "").startswith("it is 'gradient_penalty'")
    assert (why_left_out("learning rate scheme", "ReduceLROnPlateau") or "").startswith("rates follow from the iter")
    assert (why_left_out("learning rate scheme", "LambdaLR") or "").startswith("options hold no functions")
    assert why_left_out("loss", "mel_spectrogram") is None
    assert why_left_out("network", "unet_diffusion") is None
