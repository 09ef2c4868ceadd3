"""What the ancestor or torch had and Gradloom has not, by kind and patterns of names, with the reason that is told."""

from fnmatch import fnmatchcase

_AUDIO = "the ancestor's is for audio, which is left out; Gradloom trains networks of images"
_TEXT = "the ancestor's is for speech or text, which are left out; Gradloom trains networks of images"
_CACHE = "the ancestor's read from a memory cache, which there is not; leave '_mc' out"
_FLOW = "it is left out; write which_model: raft, another network of flows"
_PENALTY = "it is 'gradient_penalty', whose options say at which samples and round which norm"
_BY_METRIC = "rates follow from the iteration alone; lower them by a scheme, or end the run by 'early_stopping'"
_BY_FUNCTION = "options hold no functions; write the rate itself as a schedule, such as lr: {stepped: {points: [...]}}"
_TRIAL = "it was a trial of the ancestor's and is left out; a file under 'plugins' may define it"

_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "injector": {
        _AUDIO: (
            "mel_spectrogram", "torch_mel_spectrogram", "random_audio_crop", "audio_clip", "audio_resample",
            "discrete_token", "gpt_voice_latent", "reverse_univnet", "conditioning_latent_distribution_divergence",
            "random_scale", "audio_unshuffle", "mel2vec_codes", "clvp_text", "music_cheater_*", "kmeans_quantizer",
            "normalize_mel", "channel_clip", "mel_mask", "combine_mel",
        ),
    },
    "loss": {_AUDIO: ("nv_tacotron2_loss",), _PENALTY: ("r1", "r2", "wgan*gp", "dragan")},
    "learning rate scheme": {
        _BY_METRIC: ("ReduceLROnPlateau",),
        _BY_FUNCTION: ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),
    },
    "evaluator": {_AUDIO: ("mel", "wer", "audio_diffusion_fid", "music_diffusion_fid")},
    "network": {
        _AUDIO: (
            "audio_resnet", "cheater_gen_ar", "code2mel", "contrastive_audio", "diffusion_tts*", "diffusion_wavetron",
            "diffwave", "flat_diffusion", "instrument_quantizer", "lucidrains_dvae", "mel2vec*", "mel_text_clip",
            "mini_audio_encoder_classifier", "music_gpt*", "music_quantizer*", "nv_tacotron2", "nv_waveglow",
            "random_latent_converter", "tfdpc*", "transformer_diffusion*", "unet_diffusion_music_*",
            "unet_diffusion_tts*", "unet_diffusion_vocoder*", "unet_diffusion_waveform_gen*", "univnet", "voice_*clip",
            "voice_clip", "vqvae_audio", "w2v_matcher", "wav2vec*", "cvvp",
        ),
        _TEXT: ("autoregressive_codegen*", "clip", "clvp", "ctc_code_generator", "unified_voice*"),
        _TRIAL: (
            "unet_diffusion_latent_guide", "resnet50_weighted_conv", "wide_kernel_vgg", "twin_cifar", "spinenet*",
            "vit_latent",
        ),
        _FLOW: ("pwc_humanflow", "flownet*"),
    },
    "dataset": {
        _AUDIO: (
            "nv_tacotron", "paired_voice_audio", "fast_paired_voice_audio*", "gpt_tts", "unsupervised_audio*",
            "preprocessed_mel", "grand_conjoined_voice",
        ),
        _CACHE: ("*_mc",),
    },
}  # fmt: skip


def why_left_out(kind: str, name: str) -> str | None:
    """Return why there is none of that name, if the ancestor had one."""
    reasons = _NAMES.get(kind, {})
    return next(
        (why for why, patterns in reasons.items() if any(fnmatchcase(name, pattern) for pattern in patterns)), None
    )
