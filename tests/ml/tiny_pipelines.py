"""Pipelines of the real classes with a few thousand random weights, saved to a folder as their makers would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
UNET = {
    "sample_size": 32, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 16),
    "norm_num_groups": 4, "cross_attention_dim": 16,
}  # fmt: skip
VAE = {
    "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "a", "red", "apple", "cat"]
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[PAD]", model_max_length=16
    )


def clip_text() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=60, max_position_embeddings=16, eos_token_id=0))


def seeded() -> None:
    import torch

    torch.manual_seed(0)


def stable_diffusion(folder: Path) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    seeded()
    unet = UNet2DConditionModel(
        **UNET, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(**VAE), text_encoder=clip_text(), tokenizer=tokenizer(), unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def text_to_video(folder: Path) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel

    seeded()
    unet = UNet3DConditionModel(
        **UNET, down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"), attention_head_dim=4,
    )  # fmt: skip
    pipeline = TextToVideoSDPipeline(
        vae=AutoencoderKL(**VAE), text_encoder=clip_text(), tokenizer=tokenizer(), unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def stable_audio(folder: Path) -> Path:
    from diffusers import (
        AutoencoderOobleck,
        CosineDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
    )
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    seeded()
    text = T5EncoderModel(T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2))
    pipeline = StableAudioPipeline(
        vae=AutoencoderOobleck(
            encoder_hidden_size=6, downsampling_ratios=[4, 8], decoder_channels=3, decoder_input_channels=3,
            audio_channels=2, channel_multiples=[2, 4], sampling_rate=16_000,
        ),
        text_encoder=text, projection_model=StableAudioProjectionModel(16, 16, 0, 32), tokenizer=tokenizer(),
        transformer=StableAudioDiTModel(
            sample_size=1500, in_channels=3, num_layers=1, attention_head_dim=4, num_attention_heads=2,
            num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=16, cross_attention_input_dim=16,
            global_states_input_dim=32, time_proj_dim=8,
        ),
        scheduler=CosineDPMSolverMultistepScheduler(sigma_min=0.3, sigma_max=500, solver_order=2,
            prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def audio_ldm(folder: Path) -> Path:
    from diffusers import AudioLDMPipeline, AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import (
        ClapTextConfig,
        ClapTextModelWithProjection,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
    )

    seeded()
    vae = {**VAE, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 8, 8)}
    vae |= {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    unet = UNet2DConditionModel(
        **UNET, down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=16, class_embeddings_concat=True,
    )  # fmt: skip
    text = ClapTextConfig(
        **TEXT, vocab_size=60, max_position_embeddings=32, projection_dim=16, pad_token_id=0
    )
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16_000, upsample_initial_channel=16, upsample_rates=[4, 4, 5, 2],
        upsample_kernel_sizes=[8, 8, 11, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        normalize_before=False, initializer_range=0.2,
    )  # fmt: skip
    pipeline = AudioLDMPipeline(
        vae=AutoencoderKL(**vae), text_encoder=ClapTextModelWithProjection(text), tokenizer=tokenizer(),
        unet=unet, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), vocoder=SpeechT5HifiGan(vocoder),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def musicgen(folder: Path) -> Path:
    from transformers import (
        EncodecConfig,
        EncodecModel,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    seeded()
    text = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    audio = EncodecConfig(
        sampling_rate=16_000, num_filters=4, codebook_size=64, codebook_dim=16, hidden_size=16,
        num_lstm_layers=1, upsampling_ratios=[8, 8, 5, 2], target_bandwidths=[0.6],
    )  # fmt: skip
    books = EncodecModel(audio).quantizer.num_quantizers
    decoder = MusicgenDecoderConfig(
        vocab_size=64, hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2,
        num_codebooks=books, pad_token_id=64, bos_token_id=64, max_position_embeddings=512,
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(
        MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder.to_dict())
    )
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # zeros, untrained: every token would sound alike
    model.generation_config.decoder_start_token_id = 64
    model.generation_config.pad_token_id = 64
    model.generation_config.bos_token_id = 64
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
