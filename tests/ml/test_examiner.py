"""Examining goes on whatever a detector does, and says who could not look."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.auditing.examiner import Examination, Examiner, Subject
from ml.detectors.base import PROCESS_DIED, Words
from ml.media.process import Child
from tests.ml import misbehaving, recordings
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    made = Examiner(2 << 30, module="tests.ml.misbehaving", load=misbehaving.load)
    yield made
    made.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(path)
    return path


def text(*detectors: str) -> tuple[Subject, tuple[str, ...]]:
    return Subject("text", "text/plain", words=[Words("hello", "text")]), detectors


def states(examination: Examination) -> dict[str, str]:
    return {part.spec: part.finding.state for part in examination.parts}


def told(examination: Examination) -> dict:
    return next(part.finding.fields["item"] for part in examination.parts if part.spec == "tell")


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("crash", "ended before it had looked"),
        ("sleep", "longer than 1 s"),
        ("raise", "ValueError"),
        ("hoard", "memory"),
    ],
)
def test_a_detector_that_breaks_is_failed_and_the_others_go_on(
    examiner: Examiner, odd: str, reason: str
) -> None:
    found = examiner.examine(*text("read", odd, "tell"))
    assert states(found) == {"read": "examined", odd: "failed", "tell": "examined"}
    broken = next(part.finding for part in found.parts if part.spec == odd)
    assert reason in broken.reason
    assert (broken.cause == PROCESS_DIED) == (odd == "crash")
    # What was found before is there for those that work in the next process.
    assert told(found)["words"] == ["hello", "found in it"]


@pytest.mark.parametrize("killed", [1, 2])
def test_what_a_process_was_at_that_died_is_done_by_another_once(
    examiner: Examiner, picture: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """Ended from outside, as the kernel does where memory is short: in decoding or in the first detector."""
    taken: list[Child] = []
    take = examiner._take

    def kill(child: Child) -> None:
        child.receive(time.monotonic() + PATIENCE_S)  # it has decoded
        os.kill(child._process.pid, signal.SIGKILL)

    def noting(specs: Sequence[str]) -> Child:
        taken.append(child := take(specs))
        if len(taken) <= killed:
            child.send = lambda *given: (type(child).send(child, *given), kill(child))
        return child

    monkeypatch.setattr(examiner, "_take", noting)
    found = examiner.examine(Subject("image", "image/png", picture), ["linger", "tell"])
    assert len(taken) == 2 if killed == 1 else len(taken) == 3
    if killed == 1:
        assert states(found) == {"linger": "examined", "tell": "examined"}
        assert "error" not in found.about
    else:
        # Not the file's fault, and not said to be: those that read its bytes have looked.
        assert found.about["error"]["type"] == PROCESS_DIED
        assert states(found)["tell"] == "examined"


def test_all_may_break(examiner: Examiner) -> None:
    found = examiner.examine(*text("crash", "raise", "sleep"))
    assert set(states(found).values()) == {"failed"}


def test_there_is_no_network_and_no_file_is_written(examiner: Examiner) -> None:
    found = examiner.examine(*text("call", "write"))
    assert states(found)["write"] == "failed"
    assert next(p.finding.fields for p in found.parts if p.spec == "call") == {"network": "refused"}


def test_what_a_detector_prints_is_no_answer(examiner: Examiner) -> None:
    assert states(examiner.examine(*text("print", "tell"))) == {"print": "examined", "tell": "examined"}


def test_a_finding_that_is_too_long_is_cut(examiner: Examiner) -> None:
    part = examiner.examine(*text("babble")).parts[0]
    assert part.finding.fields == {"kept": True}
    assert part.finding.evidence == [{"kind": "left-out", "reason": "too long"}]


def test_a_picture_arrives_decoded(examiner: Examiner, picture: Path) -> None:
    found = examiner.examine(Subject("image", "image/png", picture), ["tell"])
    assert told(found)["shape"] == [40, 60, 3]
    assert told(found)["size"] == [60, 40]
    assert told(found)["head"] == picture.stat().st_size
    assert found.about["width"] == 60
    part = found.parts[0].finding
    assert (part.synthetic, part.interval, part.above) == (0.15, (0.1, 0.2), "none")
    assert part.categories["abuse"].score == 0.25
    assert part.pictures == {"mask": b"\x89PNG"}


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 nothing", b"GIF89a" + b"\0" * 50]
)
def test_a_file_that_cannot_be_decoded_is_told(examiner: Examiner, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    found = examiner.examine(Subject("image", "image/png", path), ["tell"])
    assert found.about["error"]["type"] in ("corrupt", "unsupported", "empty")
    # Whoever reads the bytes can still look.
    assert told(found)["head"] == len(content)


def test_a_film_arrives_as_shots_and_sound(examiner: Examiner, tmp_path: Path) -> None:
    path = recordings.write(
        tmp_path / "film.mp4",
        "mp4",
        pictures=[recordings.plain(60 * (n // 10)) for n in range(30)],
        sound=recordings.tone(3, 48_000),
    )
    found = examiner.examine(Subject("video", "video/mp4", path), ["tell"])
    assert len(told(found)["shots"]) == 3
    assert told(found)["heard_s"] == pytest.approx(3, abs=0.2)


def test_a_missing_file_is_told(examiner: Examiner, tmp_path: Path) -> None:
    found = examiner.examine(Subject("image", "image/png", tmp_path / "none.png"), ["tell"])
    assert found.about["error"]
    assert states(found)["tell"] == "failed"


def test_a_detector_that_is_not_installed_says_so(picture: Path) -> None:
    class Missing(misbehaving.Odd):
        def missing(self) -> str:
            return "Its weights are not here."

    examiner = Examiner(load=lambda spec: Missing(spec, misbehaving.KNOWN["tell"]))
    part = examiner.examine(Subject("image", "image/png", picture), ["tell"]).parts[0]
    assert (part.finding.state, part.finding.reason) == ("not_installed", "Its weights are not here.")


def test_a_detector_that_cannot_be_loaded_says_so(examiner: Examiner) -> None:
    part = Examiner().examine(*text("no-such")).parts[0]
    assert part.finding.state == "not_installed"
    assert "no-such" in part.finding.reason
