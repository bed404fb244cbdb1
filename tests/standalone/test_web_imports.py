"""What the web process loads: not torch, which takes seconds and half a gigabyte, and can hold a card's memory."""

from __future__ import annotations

import os
import subprocess
import sys

from standalone.config import ROOT

WEB = """
import sys
import config.asgi
from django.urls import get_resolver
get_resolver().url_patterns
from ml.encoders.base import load_encoder
load_encoder("bundled:minilm").encode(["is anybody there?"])
load_encoder("bundled:efficientnet-lite0")
print([name for name in ("torch", "transformers", "diffusers", "timm") if name in sys.modules])
"""


def test_the_web_process_loads_no_torch_and_encodes_all_the_same() -> None:
    away = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
    env = {**os.environ, **away, "SECRET_KEY": "x" * 50, "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", WEB],
        cwd=ROOT,
        env={**env, "PYTHONPATH": ".:platform"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"
