"""The application's own processes."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Mapping

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from standalone.config import PRIVILEGED, ROOT, StackConfig
from standalone.liveness import answers_http, touches
from standalone.processes import Command
from standalone.supervise import Program
from tenants.broker import celery_settings

# Process and the queues that it serves.
WORKERS = {
    "worker-embed": "embed",
    "worker-bulk": "media,import,live",
    "worker-audit": "audit",
    "worker-train": "train",
    "worker-generate": "generate",
    "worker-hooks": "hooks",
    "worker-general": "default,index,system",
}
# Long work must not be felt by people who wait for an answer: it gets what the others leave, in bulk even less.
NICE = {"worker-embed": 5, "worker-bulk": 10, "worker-generate": 10, "worker-train": 15}
# Of a process that serves several queues: how many jobs of one it runs at a time, as shares of WORKER_THREADS; it has
# RESERVED threads more. So four builds of indexes leave room for other work, and both for the sweeper and upkeep; and
# an upload of films leaves room for imports and for what is embedded for another model. A live stream keeps its thread
# as long as somebody speaks: it has threads beside those for films and imports.
PLACES = {
    "worker-general": {"index": 1 / 2, "default": 3 / 4},
    "worker-bulk": {"media": 3 / 4, "import": 1 / 2, "live": 1 / 2},
}
RESERVED = 2
# One training at a time fills a machine; its job only follows a process of its own. Webhooks wait for others' answers.
# One generation fills a device, too.
THREADS = {"worker-train": "1", "worker-generate": "1", "worker-hooks": "8"}
# Django's checks ran with the migrations; here they would load every page and view, a second and 36 MB in each process.
CELERY = ("celery", "--quiet", "--skip-checks", "-A", "config.celery")


# Who works across tenants: operators' pages; upkeep and erasing tenants. Not those that open what strangers send.
OPERATOR_PROCESSES = ("web", "worker-general")


def app_programs(config: StackConfig, env: Mapping[str, str]) -> dict[str, Program]:
    programs = (
        _program(config, env, "web", *_web(config)),
        *(_program(config, env, name, *_worker(config, name)) for name in WORKERS),
        _program(config, env, "beat", *_beat(config)),
    )
    return {program.name: program for program in programs}


def _program(config: StackConfig, env: Mapping[str, str], name: str, *arguments: str) -> Program:
    withheld = {*PRIVILEGED} - ({"OPERATOR_DATABASE_URL"} if name in OPERATOR_PROCESSES else set())
    env = {key: value for key, value in env.items() if key.removesuffix("_FILE") not in withheld}
    nice = shutil.which("nice")
    polite = [nice, "-n", str(NICE[name])] if nice and name in NICE else []
    if name == "web":
        probe = answers_http(f"{config.local_url}/healthz")
    else:
        touched = config.run_dir / f"{name}.alive"
        probe, env = touches(touched), {**env, "HEARTBEAT_FILE": str(touched), **_places(config, name)}
    command = Command([*polite, sys.executable, "-m", *arguments], env, ROOT, config.log_dir / f"{name}.log")
    # Work in hand may go on for this long; what is cut off then is taken up again by its lease.
    return Program(name, command, stage=1, stop_timeout_s=10.0, probe=probe)


def _web(config: StackConfig) -> list[str]:
    where = ["--host", config.host, "--port", str(config.port), "--ws"]
    # Places for connections are cheap, and those that nobody uses are closed (config.connections).
    most = config.environ.get("WEB_CONNECTIONS") or "4096"
    where += ["--backlog", most, "--backpressure", most, "--http1-header-read-timeout", "15000"]
    workers = ["--workers", config.environ.get("WEB_WORKERS") or "1", "--workers-kill-timeout", "5"]
    respawn = ["--respawn-failed-workers", "--respawn-interval", "0.5"]
    return ["granian", "--interface", "asgi", *where, *workers, *respawn, "config.asgi:application"]


def _threads(config: StackConfig) -> int:
    return int(config.environ.get("WORKER_THREADS") or "4")


def _most(config: StackConfig, name: str) -> dict[str, int]:
    """How many jobs of each queue a process runs at a time, where it is bounded."""
    return {queue: max(1, int(_threads(config) * share)) for queue, share in PLACES.get(name, {}).items()}


def _places(config: StackConfig, name: str) -> dict[str, str]:
    most = _most(config, name)
    return {"QUEUE_PLACES": ",".join(f"{queue}:{count}" for queue, count in most.items())} if most else {}


def _worker(config: StackConfig, name: str) -> list[str]:
    most = _most(config, name)
    threads = THREADS.get(name) or str(sum(most.values()) + RESERVED if most else _threads(config))
    # One worker a queue on one machine has nobody to gossip with: the start is faster without.
    alone = ["--without-gossip", "--without-mingle"]
    options = ["-P", "threads", "-c", threads, "-Q", WORKERS[name], "-n", node_name(name), *alone]
    return [*CELERY, "worker", *options]


def node_name(name: str) -> str:
    return f"{name}@{socket.gethostname()}"


def worker_answers(name: str, env: Mapping[str, str]) -> Callable[[], bool]:
    """Ask the worker itself through the broker: a process that runs may still not consume."""
    app = Celery(set_as_current=False)
    app.conf.update(celery_settings(env["BROKER_URL"]))

    def answers() -> bool:
        try:
            return bool(app.control.ping(destination=[node_name(name)], timeout=1.0))
        except (OSError, OperationalError, RedisError, AMQPError):
            return False

    return answers


def _beat(config: StackConfig) -> list[str]:
    # No pid file: one left by a killed beat would keep the next from starting.
    schedule = str(config.data_dir / "beat-schedule")
    return [*CELERY, "beat", "-s", schedule, "--pidfile="]
