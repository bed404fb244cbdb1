"""Bringing the stack up, keeping it up, taking it down."""

from __future__ import annotations

import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from standalone import datadir, demo_seed
from standalone.build import Builder
from standalone.config import PRIVILEGED, StackConfig
from standalone.errors import StackError
from standalone.files import read_json
from standalone.ports import check_port
from standalone.postgres import Postgres
from standalone.processes import Spawner
from standalone.programs import WORKERS, app_programs, worker_answers
from standalone.supervise import Supervisor, end_leftovers
from standalone.valkey import Valkey

SERVICE_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 180.0
BEAT_UP_S = 3.0


@dataclass(frozen=True)
class Plan:
    """What to run: the services always, these processes of the application, on which kind of database.

    Not migrated, a database stays as whatever release has left it (a backup before an upgrade).
    """

    processes: Sequence[str]
    throwaway: bool = False
    migrated: bool = True


class StopSignals:
    """Counts SIGINT and SIGTERM: the first stops the stack in order, a second one in a hurry."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def run(config: StackConfig, plan: Plan) -> None:
    """Stay until a signal comes (return) or the stack cannot start (StackError)."""
    stop = StopSignals()
    with datadir.disk_full_explained(config.data_dir), datadir.claimed(config.data_dir):
        _check_before(config, plan)
        supervisor_state = config.run_dir / "processes.json"
        spawner = Spawner()
        supervisor = Supervisor(spawner, supervisor_state, say)
        start = Start(config, plan, spawner, supervisor)
        start.thread.start()
        try:
            supervisor.loop(until=lambda: stop.count > 0 or start.error is not None)
        finally:
            say("stopping")
            supervisor.stop(hurry=lambda: stop.count > 1)
            start.thread.join(timeout=5)
        if start.error and not stop.count:
            raise start.error


def _check_before(config: StackConfig, plan: Plan) -> None:
    datadir.check_space(config.data_dir, config.min_free_mb)
    config.check_roles()
    end_leftovers(read_json(config.run_dir / "processes.json", {}), say)
    if "web" in plan.processes:
        check_port(config.host, config.port)


class Start:
    """The steps from nothing to ready, in a thread beside the supervising loop."""

    def __init__(self, config: StackConfig, plan: Plan, spawner: Spawner, supervisor: Supervisor) -> None:
        self.config = config
        self.plan = plan
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._guarded, name="start", daemon=True)
        self._spawner = spawner
        self._supervisor = supervisor
        self._builder = Builder(config, spawner, say)
        secrets = datadir.load_secrets(config.data_dir)
        self._postgres = (
            Postgres(config, secrets, spawner, plan.throwaway) if config.embeds_postgres else None
        )
        self._valkey = Valkey(config, secrets) if config.embeds_valkey else None
        self._env = self._write_environment(secrets)

    def _write_environment(self, secrets: dict[str, str]) -> dict[str, str]:
        """Of what starts the stack, with the roles that not every process gets (`programs`); kept in files."""
        given = self.config.environ
        env = {
            "DATA_DIR": str(self.config.data_dir),
            "HOST": self.config.host,
            "PORT": str(self.config.port),
            "CROSSLIGHT_MODELS": str(self.config.models_dir),
            "SECRET_KEY": given.get("SECRET_KEY") or secrets["secret_key"],
            "METRICS_TOKEN": given.get("METRICS_TOKEN") or secrets["metrics_token"],
        }
        passed_on = ("DATABASE_URL", *PRIVILEGED, "REDIS_URL", "BROKER_URL", "STORAGE_URL")
        env |= {name: given[name] for name in passed_on if given.get(name)}
        if self._postgres is None:
            env.setdefault("MIGRATION_DATABASE_URL", env["DATABASE_URL"])
        for service in (self._postgres, self._valkey):
            env |= service.environment if service else {}
        env.setdefault("BROKER_URL", env["REDIS_URL"])
        datadir.write_environment(self.config.data_dir, env)
        return {**given, **env, "DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONUNBUFFERED": "1"}

    def _guarded(self) -> None:
        try:
            with datadir.disk_full_explained(self.config.data_dir):
                self._steps()
        except BaseException as error:
            self.error = error  # handed to the main thread, which raises it

    def _steps(self) -> None:
        with_app = bool(self.plan.processes)
        front_end, models = self._builder.both(self._env) if with_app else (None, None)
        self._start_services()
        if self.plan.migrated:
            self._builder.schema(self._env)
        if front_end and models:
            front_end.result()
            self._builder.static_files(self._env)
            models.result()
            self._start_processes()
            if "web" in self.plan.processes:
                demo_seed.seed(self.config, self._spawner, self._env)
        self._announce()

    def _start_services(self) -> None:
        if self._valkey:
            self._supervisor.start(self._valkey.program())
        if self._postgres:
            say("starting Postgres")
            self._postgres.prepare()
            self._supervisor.start(self._postgres.program())
            self._supervisor.wait_for("postgres", self._postgres.answers, SERVICE_TIMEOUT_S)
            self._postgres.provision()
        if self._valkey:
            self._supervisor.wait_for("valkey", self._valkey.answers, SERVICE_TIMEOUT_S)

    def _start_processes(self) -> None:
        programs = app_programs(self.config, self._env)
        for name in self.plan.processes:
            self._supervisor.start(programs[name])
        if "web" in self.plan.processes:
            say("waiting for the application")
            answers = answers_with_ok(f"{self.config.local_url}/readyz")
            self._supervisor.wait_for("web", answers, READY_TIMEOUT_S)
        self._wait_for_the_others()

    def _wait_for_the_others(self) -> None:
        """Workers must answer; the scheduler, which nobody can ask, must have stayed up for a moment."""
        for name in self.plan.processes:
            if name in WORKERS:
                self._supervisor.wait_for(name, worker_answers(name, self._env), READY_TIMEOUT_S)
            elif name == "beat":
                self._supervisor.wait_for(
                    name, lambda: self._supervisor.uptime("beat") > BEAT_UP_S, READY_TIMEOUT_S
                )

    def _announce(self) -> None:
        self._supervisor.ready = True
        what = self.config.base_url if "web" in self.plan.processes else "without web"
        print(f"ready {what}", flush=True)


def answers_with_ok(url: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own http URL
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return answers


def prepare_only(config: StackConfig) -> None:
    """Front end and models, for a test run; no service needed."""
    datadir.create(config.data_dir)
    datadir.check_space(config.data_dir, config.min_free_mb)
    builder = Builder(config, Spawner(), say)
    env = {**config.environ, "CROSSLIGHT_MODELS": str(config.models_dir)}
    for future in builder.both(env):
        future.result()


__all__ = ["Plan", "StackError", "prepare_only", "run"]
