"""What a start needs besides running processes: models, front end, schema, static files."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from standalone import catalogue, frontend, schema_cache
from standalone.config import ROOT, StackConfig
from standalone.install import WEIGHTS, requirements_of
from standalone.processes import Command, Spawner
from standalone.progress import Progress, last_line

# Steps, as people read them; both are skipped where nothing has changed since.
FRONT_END, MODELS = "front end", "models"
MODEL_SOURCES = ("ml/compression", "ml/encoders", "requirements.txt", WEIGHTS)
# What is collected: files of ours, and of packages that the requirements pin.
STATIC_SOURCES = (
    "platform/console/static",
    "platform/config/settings.py",
    "requirements.txt",
)


class Builder:
    """Runs the building commands; each is skipped where a stamp says that nothing changed."""

    def __init__(self, config: StackConfig, spawner: Spawner, progress: Progress) -> None:
        self.config = config
        self._spawner = spawner
        self._progress = progress

    def models(self, env: Mapping[str, str]) -> None:
        folder = self.config.models_dir
        folder.mkdir(parents=True, exist_ok=True)
        with frontend.exclusively(folder):
            stamp, digest = folder / ".stamp", models_digest()
            if stamp.exists() and stamp.read_text() == digest:
                self._progress.skip(MODELS)
                return
            arguments = [sys.executable, "-m", "ml.compression", "prepare", "--out", str(folder)]
            log = self.config.log_dir / "models.log"
            with self._progress.step(MODELS, last_line(log)):
                self._spawner.run(Command(arguments, env, ROOT, log))
            stamp.write_text(digest)

    def front_end(self) -> None:
        log = self.config.log_dir / "frontend.log"
        frontend.build(self._spawner, log, lambda: self._progress.step(FRONT_END, last_line(log)))
        self._progress.skip(FRONT_END)
        catalogue.compile_all()

    def both(self, env: Mapping[str, str]) -> tuple[Future[None], Future[None]]:
        """Start both beside each other; whoever needs one waits for its future."""
        # Threads of their own: each lives as long as the commands it waits for (processes.Spawner.spawn).
        pool = ThreadPoolExecutor(2, thread_name_prefix="build")
        futures = pool.submit(self.front_end), pool.submit(self.models, env)
        pool.shutdown(wait=False)
        return futures

    def schema(self, env: Mapping[str, str]) -> None:
        def run_migrations() -> None:
            self._manage(env, "migrate", "--database=migration", "--no-input")

        schema_cache.migrate(env, self._spawner, self.config.log_dir / "schema.log", run_migrations)

    def static_files(self, env: Mapping[str, str]) -> None:
        folder = Path(env.get("STATIC_DIR") or self.config.data_dir / "static")
        folder.mkdir(parents=True, exist_ok=True)
        with frontend.exclusively(folder):
            stamp, digest = folder / ".stamp", static_digest()
            if stamp.exists() and stamp.read_text() == digest:
                return
            self._manage(env, "collectstatic", "--no-input")
            stamp.write_text(digest)

    def _manage(self, env: Mapping[str, str], name: str, *options: str) -> None:
        arguments = [sys.executable, "manage.py", name, "-v", "1", *options]
        self._spawner.run(Command(arguments, env, ROOT, self.config.log_dir / f"{name}.log"))


def models_digest() -> str:
    """Changes where models may have to be prepared: with the code, and with the packages of weights at hand."""
    digest = hashlib.sha256()
    for part in _read(MODEL_SOURCES):
        digest.update(part)
    for requirement in requirements_of((ROOT / WEIGHTS).read_text()):
        digest.update(f"{_installed(requirement.partition('==')[0])}\0".encode())
    return digest.hexdigest()


def static_digest() -> str:
    """Changes where static files may have to be collected."""
    digest = hashlib.sha256()
    for part in _read(STATIC_SOURCES):
        digest.update(part)
    return digest.hexdigest()


def _read(sources: Iterable[str]) -> Iterator[bytes]:
    for path in [ROOT / name for name in sources]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                yield f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
