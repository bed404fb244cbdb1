"""Answers in pieces: slow readers, readers that stop, children that die, many answers at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ml.media import Decoder, MediaError
from ml.media.fair_queue import FairQueue
from tests.ml.recordings import decoding_children, plain, tone, write, write_long_wav
from tests.waiting import pause


@pytest.fixture
def long(tmp_path: Path) -> Path:
    return write_long_wav(tmp_path / "long.wav", hours=1)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write(
        tmp_path / "film.mp4", "mp4", pictures=[plain(5 * i) for i in range(40)], sound=tone(4, 48_000)
    )


@pytest.fixture
def others() -> set[int]:
    """Children of decoders that are none of this test's."""
    return decoding_children()


def test_a_reader_that_stops_leaves_no_child(long: Path, others: set[int]) -> None:
    with Decoder() as decoder:
        pieces = decoder.sound(long)
        next(pieces)
        assert len(decoding_children() - others) == 1
        pieces.close()
        assert decoding_children() == others
        assert len(decoder.audio(long, max_seconds=1)) == 16_000


def test_a_reader_that_forgets_leaves_no_child(long: Path, others: set[int]) -> None:
    with Decoder() as decoder:
        for _ in decoder.sound(long):
            break
        assert decoding_children() == others


def test_a_finished_answer_gives_its_child_back(film: Path, others: set[int]) -> None:
    with Decoder() as decoder:
        assert len(list(decoder.frames(film))) == 4
        first = decoding_children() - others
        assert len(list(decoder.sound(film))) == 1
        decoder.probe(film)
        assert decoding_children() - others == first
        assert len(first) == 1


def test_a_slow_reader_is_not_the_files_fault(long: Path) -> None:
    with Decoder() as decoder:
        decoder.probe(long)
        decoder.timeout_s = 0.5
        pieces = decoder.sound(long)
        assert next(pieces).start_s == 0
        # The child's own alarm rings two seconds after its time; it must not while it only waits.
        pause(3, "the alarm of the child would ring")
        assert next(pieces).start_s == 60
        assert next(pieces).start_s == 120


def test_one_place_serves_answers_that_wait_for_each_other(film: Path) -> None:
    with Decoder(turns=lambda: FairQueue(1)) as decoder:
        seen = [(frame.at_s, len(list(decoder.sound(film)))) for frame in decoder.frames(film)]
    assert [heard for _, heard in seen] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_child_killed_between_pieces(long: Path, others: set[int]) -> None:
    with Decoder() as decoder:
        pieces = decoder.sound(long)
        next(pieces)
        (child,) = decoding_children() - others
        os.kill(child, signal.SIGKILL)
        # Another one begins again; what was handed out is not handed out twice.
        rest = [piece.start_s for piece in pieces]
        assert rest == [piece.start_s for piece in decoder.sound(long)][1:]


def test_a_child_that_hangs_between_pieces(long: Path, others: set[int]) -> None:
    with Decoder() as decoder:
        decoder.probe(long)
        decoder.timeout_s = 1
        pieces = decoder.sound(long)
        next(pieces)
        (child,) = decoding_children() - others
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(MediaError) as caught:
            list(pieces)
        assert caught.value.code == "timeout"
        assert decoding_children() == others


def test_missing_and_strange_files(tmp_path: Path) -> None:
    with Decoder() as decoder:
        for ask in (
            decoder.probe,
            lambda path: list(decoder.sound(path)),
            lambda path: list(decoder.frames(path)),
        ):
            with pytest.raises(FileNotFoundError):
                ask(tmp_path / "absent")
            with pytest.raises(MediaError) as caught:
                ask(Path("/dev/zero"))
            assert caught.value.code == "unsupported"
