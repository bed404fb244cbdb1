"""What a child that was taken over can do: nothing but its work. Each kind is started as the product starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ml import sandbox
from ml.auditing.examiner import Examiner, Subject
from ml.documents import Reader
from ml.media import Decoder
from ml.media.process import Child
from tests.ml import misbehaving, recordings
from tests.waiting import PATIENCE_S

MODULE = "tests.ml.trespassing"
SECRETS = ("SECRET_KEY", "MIGRATION_DATABASE_URL", "DATABASE_URL", "REDIS_URL", "BROKER_URL", "STORAGE_URL")
SECRETS += ("AWS_SECRET_ACCESS_KEY", "ANYTHING_ELSE")
FILES = ("read a file", "list a folder", "read the passwords", "write a file", "write over a file")
FILES += ("remove a file", "make a folder", "read the parent's environment", "read the parent's descriptors")
REFUSED = {"EACCES", "EPERM", "ENOSYS"}
ROOT = os.geteuid() == 0
ENFORCED = sandbox.describe()


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[str]:
    """A file that only the rules of the sandbox protect, with folders above it that everybody may pass."""
    folder = Path("/tmp") / f"crosslight-trespass-{os.getpid()}"
    folder.mkdir(mode=0o777)
    path = folder / "secret"
    path.write_text("secret")
    path.chmod(0o666)
    yield str(path)
    for left in (*folder.iterdir(), folder):
        left.rmdir() if left.is_dir() else left.unlink()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hunter2")


def check(told: dict[str, Any], secret: str, *, opens: bool = False) -> None:
    """`opens`: of a child that opens files as it runs, which only Landlock limits."""
    unlimited = FILES if opens and not ENFORCED.landlock else ()
    done = {name: end for name, end in told["acts"].items() if end not in REFUSED and name not in unlimited}
    assert done == {}
    assert len(told["acts"]) > 25
    assert "hunter2" not in told["environment"].values()
    assert Path(secret).read_text() == "secret"


def check_lookups(told: dict[str, Any]) -> None:
    """Refused alike whether there is such a file or not: the answer tells nothing."""
    assert set(told["lookups"].values()) == {"EACCES"}, told["lookups"]


def check_status(status: dict[str, str], kind: str) -> None:
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    # Where Python lies below a folder of root's, it may search such folders; otherwise nothing.
    assert int(status["CapEff"], 16) in (0, 1 << sandbox.CAP_DAC_READ_SEARCH)
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16)
    expected = sandbox.USERS[kind] if ROOT else os.getuid()
    assert status["Uid"].split() == status["Gid"].split() == [str(expected)] * 4 or not ROOT
    assert status["Groups"] == "" or not ROOT


def status_of(pid: int) -> dict[str, str]:
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def ask(
    child: Child, request: dict[str, Any], path: Path | None = None
) -> tuple[dict[str, Any], list[bytearray]]:
    child.send({"timeout_s": 20, **request}, path)
    first = child.receive(time.monotonic() + PATIENCE_S)
    if not first[0].get("end"):
        assert child.receive(time.monotonic() + PATIENCE_S)[0]["end"]
    return first


def test_the_kernel_of_this_machine_enforces_it() -> None:
    """Fails where the tests below would pass for want of a kernel: then they say nothing."""
    assert ENFORCED.seccomp
    assert ENFORCED.no_new_privs
    assert (ENFORCED.uid == sandbox.USERS["decoder"]) == ROOT


def test_a_decoder_at_work(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    with Decoder() as decoder:
        decoder.image(tmp_path / "small.png")
        pid = decoder.pool.idle[-1]._process.pid
        check_status(status_of(pid), "decoder")
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_reader_of_documents_at_work(tmp_path: Path) -> None:
    (tmp_path / "small.md").write_text("# Hello")
    with Reader() as reader:
        assert reader.read(tmp_path / "small.md", "text/markdown").text == "Hello"
        pid = reader.pool.idle[-1]._process.pid
        check_status(status_of(pid), "document")
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_an_examiner_at_work() -> None:
    examiner = Examiner(2 << 30, module="tests.ml.misbehaving", load=misbehaving.load)
    try:
        examiner.examine(Subject("text", "text/plain"), ["tell"])
        pid = examiner._idle[-1]._process.pid
        check_status(status_of(pid), "examiner")
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        examiner.close()


@pytest.mark.parametrize("landlock", [(), ("without-landlock",)])
def test_a_decoder_that_was_taken_over(secret: str, tmp_path: Path, landlock: Sequence[str]) -> None:
    child = Child(1 << 30, MODULE, arguments=["decoder", *landlock])
    try:
        _, parts = ask(child, {"secret": secret})
        check(json.loads(parts[0]), secret)
        check_lookups(json.loads(parts[0]))
        # Neither kind of limit keeps it from its work, whatever is loaded for it.
        check_work(child, tmp_path)
    finally:
        child.stop()


def check_work(child: Child, folder: Path) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "AVIF"):
        Image.new("RGB", (30, 20), "red").save(folder / "picture", kind)
        request = {"kind": "image", "max_pixels": 1000, "thumbnail": True}
        header, _ = ask(child, request, folder / "picture")
        assert (header.get("width"), header.get("message")) == (30, None)
    film = recordings.write(
        folder / "film.mp4", "mp4", pictures=[recordings.plain(9)] * 10, sound=recordings.tone(1, 48_000)
    )
    header, _ = ask(child, {"kind": "probe", "max_seconds": 60}, film)
    assert header.get("has_picture"), header
    header, parts = ask(child, {"kind": "audio", "seconds": 60}, film)
    assert len(parts[0]) > 16_000


@pytest.mark.parametrize("landlock", [(), ("without-landlock",)])
def test_an_examiner_that_was_taken_over(secret: str, landlock: Sequence[str]) -> None:
    child = Child(4 << 30, MODULE, arguments=["examiner", *landlock, "--", "fingerprints"])
    try:
        _, parts = ask(child, {"secret": secret})
        check(json.loads(parts[0]), secret)
    finally:
        child.stop()


def test_without_landlock_detectors_have_loaded_their_models_before(tmp_path: Path) -> None:
    """A detector that reads a list, one with an ONNX model, and one that reads the bytes of the file."""
    specs = ["keywords", "fingerprints", "declared"]
    Image.effect_noise((300, 300), 90).save(tmp_path / "noise.png")
    child = Child(4 << 30, "tests.ml.no_landlock", arguments=["--", *specs])
    request = {
        "modality": "image",
        "media_type": "image/png",
        "words": [{"text": "a word", "origin": "caption"}],
    }
    request |= {"options": {}, "detectors": specs, "timeouts": [20, 20, 20], "max_pixels": 1_000_000}
    try:
        child.send({"timeout_s": 20, **request}, tmp_path / "noise.png")
        found = [child.receive(time.monotonic() + PATIENCE_S) for _ in range(4)]
    finally:
        child.stop()
    states = {header["stage"]: json.loads(parts[0]).get("state") for header, parts in found[1:]}
    assert states == dict.fromkeys(specs, "examined")


@pytest.mark.parametrize("kind", ["index", "map", "trainer"])
def test_a_process_of_a_job_that_was_taken_over(secret: str, tmp_path: Path, kind: str) -> None:
    from tenants.jobs import processes

    folder, other = tmp_path / "work", tmp_path / "other"
    folder.mkdir(mode=0o700)
    other.mkdir(mode=0o700)
    (folder / "run.json").write_text('{"recipe": {}, "data": []}') if kind != "trainer" else request_of(
        folder
    )
    with processes.running(
        [sys.executable, "-m", MODULE, kind, secret, str(folder)], folders=[folder]
    ) as child:
        lines = [line for line in child.lines() if line]
    told = lines[-1]
    check(told, secret, opens=True)
    check_status(told["status"], kind)
    # Its own folder is its to write, and this process's again when it has ended.
    assert told["own"] == "x"
    assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {os.getuid()}


def request_of(folder: Path) -> None:
    recipe = {"objective": "align", "stage": "adapt", "data": [], "epochs": 1, "batch": 2}
    (folder / "run.json").write_text(json.dumps(recipe))


def test_a_reader_of_tables_that_was_taken_over(secret: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"PAR1")
    path.chmod(0o600)
    with path.open("rb") as file:
        limits = json.dumps({"memory": 1 << 30, "cpu_s": 20})
        done = subprocess.run(
            [sys.executable, "-m", MODULE, "table", secret, str(file.fileno()), limits],
            cwd="/", env=sandbox.environment(), pass_fds=[file.fileno()], capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    told = json.loads(json.loads(done.stdout)["fatal"].partition(": ")[2])
    check(told, secret)
    check_status(told["status"], "table")
    assert told["own"] == "PAR1"
