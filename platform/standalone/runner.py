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
from standalone.backup import wal
from standalone.build import FRONT_END, MODELS, Builder
from standalone.config import PRIVILEGED, StackConfig
from standalone.errors import StackError
from standalone.files import read_json
from standalone.liveness import ProbeTiming
from standalone.ports import check_port
from standalone.postgres import Postgres
from standalone.processes import Spawner
from standalone.programs import WORKERS, app_programs, worker_answers
from standalone.progress import Progress, last_line
from standalone.supervise import Supervisor, end_leftovers
from standalone.valkey import Valkey

SERVICE_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 180.0
BEAT_UP_S = 3.0
# Steps of a start, as people read them.
SERVICES, TABLES, APPLICATION = "Postgres and Valkey", "tables", "web and workers"


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
        supervisor = Supervisor(spawner, supervisor_state, say, ProbeTiming.from_environ(config.environ))
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
        self._answered = 0
        self._progress = Progress(say, self._planned())
        self._builder = Builder(config, spawner, self._progress)
        datadir.make_master_key(config.data_dir, config.environ)
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
        passed_on = ("DATABASE_URL", *PRIVILEGED, "REDIS_URL", "BROKER_URL", "STORAGE_URL", wal.VARIABLE)
        env |= {name: given[name] for name in passed_on if given.get(name)}
        env |= datadir.master_key(self.config.data_dir, given)
        if former := given.get("SECRET_KEY_FALLBACKS") or secrets.get(datadir.FORMER):
            env["SECRET_KEY_FALLBACKS"] = former
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

    def _planned(self) -> list[str]:
        """Names of the steps that this plan has; those of which nothing is to do are skipped in silence."""
        application = [FRONT_END, MODELS, APPLICATION] if self.plan.processes else []
        tables = [TABLES] if self.plan.migrated else []
        sown = self.config.seeds_demo is False or (self.config.data_dir / "demo.json").exists()
        demo = [demo_seed.DEMO] if "web" in self.plan.processes and not sown else []
        return [SERVICES, *tables, *application, *demo]

    def _steps(self) -> None:
        with self._progress.reporting():
            with_app = bool(self.plan.processes)
            front_end, models = self._builder.both(self._env) if with_app else (None, None)
            with self._progress.step(SERVICES):
                self._start_services()
            if self.plan.migrated:
                with self._progress.step(TABLES, last_line(self.config.log_dir / "migrate.log")):
                    self._builder.schema(self._env)
            if front_end and models:
                front_end.result()
                self._builder.static_files(self._env)
                models.result()
                with self._progress.step(APPLICATION, self._answering):
                    self._start_processes()
                if "web" in self.plan.processes:
                    demo_seed.seed(self.config, self._spawner, self._env, self._progress)
        self._announce()

    def _answering(self) -> str:
        """They are waited for one after the other, web first."""
        names = self.plan.processes
        awaited = f", waiting for {names[self._answered]}" if self._answered < len(names) else ""
        return f"{self._answered} of {len(names)} answer{awaited}"

    def _start_services(self) -> None:
        if self._valkey:
            self._supervisor.start(self._valkey.program())
        if self._postgres:
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
        for name in self.plan.processes:
            self._supervisor.wait_for(name, self._answers(name), READY_TIMEOUT_S)
            self._answered += 1

    def _answers(self, name: str) -> Callable[[], bool]:
        """Web must be ready, workers answer; the scheduler, which nobody can ask, stay up for a moment."""
        if name == "web":
            return answers_with_ok(f"{self.config.local_url}/readyz")
        if name in WORKERS:
            return worker_answers(name, self._env)
        return lambda: self._supervisor.uptime(name) > BEAT_UP_S

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


def prepare_only(config: StackConfig, *, models: bool = True) -> None:
    """Front end and models, for a test run or an image; no service needed."""
    datadir.create(config.data_dir)
    datadir.check_space(config.data_dir, config.min_free_mb)
    progress = Progress(say, [FRONT_END, MODELS] if models else [FRONT_END])
    builder = Builder(config, Spawner(), progress)
    with progress.reporting():
        if not models:
            builder.front_end()
            return
        for future in builder.both({**config.environ, "CROSSLIGHT_MODELS": str(config.models_dir)}):
            future.result()


__all__ = ["Plan", "StackError", "prepare_only", "run"]
