"""The decoder's children: limited, replaced, shared between threads, never outliving the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from ml.media import Decoder, MediaError
from ml.media.decoder import TRIES
from ml.media.fair_queue import FairQueue
from ml.media.process import Child
from ml.sandbox import ROOT
from tests.waiting import until


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.png"
    Image.new("RGB", (30, 20)).save(path)
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A few kilobytes that become 120 MB of pixels."""
    path = tmp_path / "big.png"
    Image.new("RGB", (6000, 5000)).save(path)
    return path


def pid_of(decoder: Decoder) -> int:
    return decoder.pool.idle[-1]._process.pid


def test_one_child_serves_many(small: Path) -> None:
    with Decoder() as decoder:
        decoder.image(small)
        first = pid_of(decoder)
        decoder.image(small)
        assert pid_of(decoder) == first


def test_a_refusal_keeps_the_child(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no picture")
    with Decoder() as decoder:
        decoder.image(small)
        first = pid_of(decoder)
        with pytest.raises(MediaError):
            decoder.image(tmp_path / "text")
        assert pid_of(decoder) == first


def test_memory_bomb(small: Path, big: Path) -> None:
    with Decoder(memory_bytes=150 << 20) as decoder:
        for _ in range(2):
            with pytest.raises(MediaError) as caught:
                decoder.image(big)
            assert caught.value.code == "too-large"
        assert decoder.image(small).width == 30


def test_timeout_kills_the_child(small: Path) -> None:
    with Decoder() as decoder:
        decoder.image(small)
        patience, decoder.timeout_s = decoder.timeout_s, 0.5
        stuck = pid_of(decoder)
        os.kill(stuck, signal.SIGSTOP)
        with pytest.raises(MediaError) as caught:
            decoder.image(small)
        assert caught.value.code == "timeout"
        assert not Path(f"/proc/{stuck}").exists()
        decoder.timeout_s = patience
        assert decoder.image(small).width == 30


def test_a_killed_idle_child_is_replaced(small: Path) -> None:
    with Decoder() as decoder:
        decoder.image(small)
        os.kill(pid_of(decoder), signal.SIGKILL)
        decoder.pool.idle[-1]._process.wait()
        assert decoder.image(small).width == 30


def test_what_a_child_was_at_that_died_is_done_by_another(small: Path, big: Path) -> None:
    with Decoder() as decoder:
        decoder.image(small)
        pid = pid_of(decoder)
        os.kill(pid, signal.SIGSTOP)
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        assert decoder.image(big).width == 6000
        killer.join()
        assert pid_of(decoder) != pid


def test_a_file_whose_children_die_could_not_be_looked_at(small: Path) -> None:
    killed: list[Child] = []
    with Decoder() as decoder:
        take = decoder.pool._take

        def kill() -> Child:
            killed.append(child := take())
            child._process.kill()
            return child

        decoder.pool._take = kill
        with pytest.raises(MediaError) as caught:
            decoder.image(small)
        assert (caught.value.code, len(killed)) == ("decoder-died", TRIES)
        assert "could not be examined" in caught.value.message


def test_threads_share_at_most_k_children(small: Path) -> None:
    with Decoder(turns=lambda: FairQueue(2)) as decoder, ThreadPoolExecutor(8) as pool:
        assert {result.width for result in pool.map(decoder.image, [small] * 40)} == {30}
        assert 1 <= len(decoder.pool.idle) <= 2


def test_close_ends_children_and_the_decoder_works_again(small: Path) -> None:
    decoder = Decoder()
    decoder.image(small)
    pid = pid_of(decoder)
    decoder.close()
    assert not Path(f"/proc/{pid}").exists()
    assert decoder.image(small).width == 30
    decoder.close()


def test_missing_files_are_the_callers_mistake(tmp_path: Path) -> None:
    with Decoder() as decoder, pytest.raises(FileNotFoundError):
        decoder.image(tmp_path / "absent")


def test_devices_are_refused() -> None:
    with Decoder() as decoder, pytest.raises(MediaError) as caught:
        decoder.image("/dev/zero")
    assert caught.value.code == "unsupported"


def test_children_die_with_the_parent(small: Path) -> None:
    code = (
        "import sys, time\nfrom ml.media import Decoder\nd = Decoder()\n"
        f"d.image({str(small)!r})\nprint(d.pool.idle[0]._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    # A killed parent's child is adopted, and may stay a zombie where nobody waits for it.
    until(lambda: _state(child) in ("", "Z"), message="the child lives on")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_secrets_do_not_reach_the_child(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    with Decoder() as decoder:
        decoder.image(small)
        assert b"hunter2" not in Path(f"/proc/{pid_of(decoder)}/environ").read_bytes()


def test_the_package_imports_no_heavy_library(run_python: Callable[[str], str]) -> None:
    code = "import sys, ml.media; print([m for m in ('numpy', 'PIL', 'av', 'torch') if m in sys.modules])"
    assert run_python(code).strip() == "[]"
