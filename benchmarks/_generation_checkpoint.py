"""A diffusers checkpoint of true size through the product's generator: does one line turn it on, and what does it take?

Parts and sizes are those of Stable Diffusion 1.5 (a UNet of 860 million weights, VAE, CLIP's text tower) in half
precision; the weights are random and the tokenizer is made here, so that nothing is fetched. Pictures show nothing;
memory and seconds do not depend on what weights say. A process of its own reads GENERATOR_IMAGE as a worker does,
draws, marks, signs and reads back; another one has too little memory for it. At toy size one process does all that.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from _report import OUT, ROOT, Line, at_most, sized

SIDE, STEPS = sized(512, 256), 2
PROMPT = "a red apple on a wooden table"
#: What the process may take that has too little memory for it.
TOO_LITTLE = sized(2 << 30, 64 << 20)
#: At toy size, so that the model is too large for that: rows of words that nothing reads.
ROOMY = 2_000_000
UNET: dict[str, Any] = sized(
    {"sample_size": 64, "cross_attention_dim": 768},
    {
        "sample_size": 32,
        "cross_attention_dim": 16,
        "block_out_channels": (16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
)
VAE: dict[str, Any] = {
    "sample_size": SIDE,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    **sized(
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
    ),
}
TEXT: dict[str, Any] = sized(
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
)


def run() -> list[Line]:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT, prefix="checkpoint-") as name:
        folder = Path(name) / "model"
        told: dict[str, Any] = {}
        for steps in sized((("write",), ("draw",), ("refuse",)), (("write", "draw", "refuse"),)):
            told |= _child(steps, folder)
        written, drawn, refused = told["write"], told["draw"], told["refuse"]
    if refused["code"] != "out-of-memory":
        raise RuntimeError(f"with too little memory it said {refused}")
    weights = written["weights"] / 1e6
    return [
        Line("weights: UNet, VAE, text tower", f"{written['unet']:,} {written['vae']:,} {written['text']:,}"),
        Line("on the disk", round(written["bytes"] / 1e6), "MB"),
        Line("turned on by", drawn["line"].replace(str(folder), "FOLDER")),
        Line("loading, by the clock", drawn["load_s"], "s"),
        Line("  of the processor", drawn["load_cpu_s"], "s"),
        Line(f"a picture of {SIDE} px, {STEPS} steps, one candidate, by the clock", drawn["draw_s"], "s"),
        Line("  of the processor", drawn["draw_cpu_s"], "s"),
        Line("  longest from one chance to cancel to the next", drawn["longest_s"], "s"),
        Line("  each further step, of the processor", drawn["step_cpu_s"], "s"),
        # Four bytes a weight in single precision, and what a picture takes.
        at_most("memory of its own, at the most", drawn["memory"] / 1e6, 4 * weights + 3_500, "MB"),
        Line("  once loaded", round(drawn["loaded"] / 1e6), "MB"),
        Line("released", f"{drawn['width']} × {drawn['height']}, {drawn['marks']}"),
        Line("cancelled after a step, ended after", drawn["cancelled_s"], "s"),
        Line("with too little memory", refused["code"]),
        Line("  refused after", refused["seconds"], "s"),
        Line("  memory of its own by then", round(refused["memory"] / 1e6), "MB"),
    ]


def _child(steps: Sequence[str], folder: Path) -> dict[str, Any]:
    """What a process of its own says of the checkpoint, by step."""
    env = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": "bench",
        # Nothing is asked of these: only the settings are read.
        "DATABASE_URL": "postgres://localhost/bench",
        "REDIS_URL": "redis://localhost",
        **os.environ,
        "GENERATOR_IMAGE": f"hf-image:{folder}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}:{ROOT / 'benchmarks'}",
    }
    command = [sys.executable, "-P", __file__, str(folder), *steps]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{steps}: status {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- In the processes -------------------------------------------------------------------------------------


def write(folder: Path) -> dict[str, Any]:
    import torch
    from _hub_size import WORDS, tokenizer
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="<|end|>", eos_token="<|end|>", unk_token="a", model_max_length=77
    )  # fmt: skip
    text = CLIPTextConfig(
        **TEXT,
        vocab_size=sized(WORDS, ROOMY),
        max_position_embeddings=77,
        bos_token_id=WORDS - 2,
        eos_token_id=WORDS - 1,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    parts = {
        "unet": UNet2DConditionModel(**UNET),
        "vae": AutoencoderKL(**VAE),
        "text_encoder": CLIPTextModel(text),
    }
    pipeline = StableDiffusionPipeline(
        **parts,
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    counts = {name: sum(one.numel() for one in part.parameters()) for name, part in parts.items()}
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return {
        "unet": counts["unet"],
        "vae": counts["vae"],
        "text": counts["text_encoder"],
        "weights": sum(counts.values()),
        "bytes": size,
    }


def _studio(folder: Path) -> Any:
    """As the worker has it: generators by the settings."""
    import django

    django.setup()
    from django.conf import settings

    from ml.generators.base import Marker
    from ml.generators.studio import Studio
    from ml.provenance.signing import tenant_keys

    keys = tenant_keys(folder.parent, "benchmark", "Benchmark")
    return Studio(settings.GENERATORS, Marker(bytes(range(32)), keys, 0xBE7C4, "benchmark"))


def draw(folder: Path) -> dict[str, Any]:
    import numpy as np
    from _stack import most_memory, own_memory

    from ml.generators import hf_image
    from ml.generators.base import Cancelled, Step
    from ml.generators.studio import Request

    studio = _studio(folder)
    # What compares pictures with words is no part of the checkpoint.
    studio.scores(PROMPT, [np.zeros((256, 256, 3), np.uint8)])
    before = own_memory()
    with most_memory() as peak:
        begun, cpu = time.monotonic(), time.process_time()
        _ = hf_image.load(str(folder)).pipeline
        load_s, load_cpu_s = time.monotonic() - begun, time.process_time() - cpu
        loaded = own_memory()
        asked = [(time.monotonic(), time.process_time())]

        def watch(step: Step) -> None:
            asked.append((time.monotonic(), time.process_time()))

        request = Request(PROMPT, steps=STEPS, width=SIDE, height=SIDE, candidates=1, seed=7)
        begun, cpu = time.monotonic(), time.process_time()
        [piece] = studio.create(request, watch).pieces
        draw_s, draw_cpu_s = time.monotonic() - begun, time.process_time() - cpu
    asked.append((time.monotonic(), time.process_time()))
    begun = time.monotonic()

    def stop(step: Step) -> None:
        nonlocal begun
        begun = time.monotonic()
        raise Cancelled

    try:
        studio.create(request, stop)
        raise RuntimeError("it went on though it was cancelled")
    except Cancelled:
        cancelled_s = time.monotonic() - begun
    marks = piece.made.marks
    return {
        "line": f"GENERATOR_IMAGE={os.environ['GENERATOR_IMAGE']}",
        "load_s": round(load_s, 1),
        "load_cpu_s": round(load_cpu_s, 1),
        "loaded": loaded - before,
        "memory": peak[0] - before,
        "draw_s": round(draw_s, 1),
        "draw_cpu_s": round(draw_cpu_s, 1),
        "step_cpu_s": round(asked[2][1] - asked[1][1], 1),
        "longest_s": round(max(after[0] - one[0] for one, after in pairwise(asked)), 1),
        "width": piece.made.width,
        "height": piece.made.height,
        "marks": f"c2pa {marks['c2pa']['state']}, mark {marks['watermark']['payload']}",
        "cancelled_s": round(cancelled_s, 1),
    }


def refuse(folder: Path) -> dict[str, Any]:
    import torch
    from _stack import most_memory, own_memory
    from diffusers import AutoPipelineForText2Image
    from psutil import Process

    from ml.generators import hf_image
    from ml.generators.base import GenerationError
    from ml.generators.studio import Request

    # Of the process at toy size, which has drawn.
    hf_image.load.cache_clear()
    gc.collect()
    studio, before = _studio(folder), own_memory()
    # What these take is no part of the model.
    assert issubclass(AutoPipelineForText2Image, object) and torch.zeros(1).isfinite()
    most = Process().memory_info().data + TOO_LITTLE
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    begun, code = time.monotonic(), "drawn"
    with most_memory() as peak:
        try:
            studio.create(Request(PROMPT, steps=1, width=SIDE, height=SIDE, candidates=1))
        except GenerationError as error:
            code = error.code
    return {"code": code, "seconds": round(time.monotonic() - begun, 1), "memory": peak[0] - before}


if __name__ == "__main__":
    known = {"write": write, "draw": draw, "refuse": refuse}
    print(json.dumps({step: known[step](Path(sys.argv[1])) for step in sys.argv[2:]}))
