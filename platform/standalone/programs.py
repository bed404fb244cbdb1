"""The application's own processes."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from standalone.config import ROOT, StackConfig
from standalone.processes import Command
from standalone.supervise import Program


def app_programs(config: StackConfig, env: Mapping[str, str]) -> dict[str, Program]:
    programs = (
        _program(config, env, "web", *_web(config)),
        _program(config, env, "worker-embed", *_worker(config, "embed", "embed")),
        _program(config, env, "worker-general", *_worker(config, "general", "default,index,system")),
        _program(config, env, "beat", *_beat(config)),
    )
    return {program.name: program for program in programs}


def _program(config: StackConfig, env: Mapping[str, str], name: str, *arguments: str) -> Program:
    command = Command([sys.executable, "-m", *arguments], env, ROOT, config.log_dir / f"{name}.log")
    # Work in hand may go on for this long; what is cut off then is taken up again by its lease.
    return Program(name, command, stage=1, stop_timeout_s=10.0)


def _web(config: StackConfig) -> list[str]:
    where = ["--host", config.host, "--port", str(config.port), "--no-ws"]
    workers = ["--workers", config.environ.get("WEB_WORKERS") or "1", "--workers-kill-timeout", "5"]
    respawn = ["--respawn-failed-workers", "--respawn-interval", "0.5"]
    return ["granian", "--interface", "asgi", *where, *workers, *respawn, "config.asgi:application"]


def _worker(config: StackConfig, name: str, queues: str) -> list[str]:
    threads = config.environ.get("WORKER_THREADS") or "4"
    # One worker a queue on one machine has nobody to gossip with: the start is faster without.
    alone = ["--without-gossip", "--without-mingle"]
    options = ["-P", "threads", "-c", threads, "-Q", queues, "-n", f"{name}@%h", *alone]
    return ["celery", "-A", "config.celery", "worker", *options]


def _beat(config: StackConfig) -> list[str]:
    # No pid file: one left by a killed beat would keep the next from starting.
    return [
        "celery",
        "-A",
        "config.celery",
        "beat",
        "-s",
        str(config.data_dir / "beat-schedule"),
        "--pidfile=",
    ]
