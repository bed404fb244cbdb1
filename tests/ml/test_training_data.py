"""What training reads: shards, splits, the report before training, shuffling, raw sources."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.training.plan import LEFT_OUT, TEST, TRAIN, VAL, Plan, Selection, TrainingError
from ml.training.quality import inspect_data
from ml.training.shards import Pair, ShardWriter, read_pairs, shard_encoders_key
from ml.training.sources import LARGEST_MEMBER, RawPair, Unreadable, raw_pairs
from ml.training.stream import Order, batches, prefetched, shuffled
from tests.ml.training_pairs import pairs


def write(folder: Path, items: list[Pair], encoders: str = "enc", rows_a_file: int = 500) -> list[str]:
    with ShardWriter(folder, encoders, rows_a_file) as writer:
        for item in items:
            writer.add(item)
    return [str(path) for path in writer.paths]


def equal(one: Pair, other: Pair) -> bool:
    names = Pair.__dataclass_fields__
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# --- Shards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [0, 24])
def test_shards_give_back_what_was_written(tmp_path: Path, features: int) -> None:
    items = pairs(600, features=features)
    assert len(write(tmp_path, items)) == 2
    stream = read_pairs([str(tmp_path)])
    for _ in range(2):
        assert all(equal(*both) for both in zip(items, stream, strict=True))
    assert stream.encoders_key() == "enc"


def test_an_error_leaves_no_half_shard(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "enc") as writer:
        for item in pairs(300):
            writer.add(item)
        raise KeyboardInterrupt
    assert list(read_pairs([str(tmp_path)])) == []


@pytest.mark.parametrize("content", [b"", b"PAR1 no shard", b"\0" * 100])
def test_what_is_no_shard_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        list(read_pairs([str(path)]))
    assert caught.value.code == "unreadable"


def test_a_cut_shard_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    path = Path(write(tmp_path, pairs(300))[0])
    damaged = bytearray(path.read_bytes())
    damaged[200:2000] = b"\xff" * 1800
    path.write_bytes(damaged)
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "other.parquet")
    for name in (path.name, "other.parquet", "missing.parquet"):
        with pytest.raises(TrainingError) as caught:
            list(read_pairs([str(tmp_path / name)]))
        assert caught.value.code == "unreadable", name
    assert shard_encoders_key(str(tmp_path / "other.parquet")) is None


def test_shards_of_two_encoders_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a", pairs(20), "one")
    write(tmp_path / "b", pairs(20), "two")
    with pytest.raises(TrainingError, match="different encoders"):
        read_pairs([str(tmp_path / "a"), str(tmp_path / "b")]).encoders_key()


# --- The report before training -----------------------------------------------------------------------------


def code_of(items: list[Pair], least: int = 16, unreadable: int = 0) -> str:
    with pytest.raises(TrainingError) as caught:
        inspect_data(items, least, unreadable=unreadable)
    return caught.value.code


def test_what_cannot_be_learnt_from_is_refused() -> None:
    many = pairs(100)
    assert code_of([]) == "no_pairs"
    assert code_of([], unreadable=3) == "unreadable"
    assert code_of(many[:5], unreadable=6) == "unreadable"
    assert code_of(many[:1]) == "too_few_pairs"
    assert code_of(many[:10]) == "too_few_pairs"
    assert code_of([replace(many[0], key=str(row)) for row in range(100)]) == "all_duplicates"
    assert code_of([replace(item, group="same") for item in many]) == "single_class"
    assert code_of([replace(item, captions=("A dog.",) * 2) for item in many]) == "single_class"


def test_too_few_says_how_many_are_needed() -> None:
    with pytest.raises(TrainingError, match="about 20 are needed"):
        inspect_data(pairs(10), 16)


def test_splits_keep_groups_whole_and_do_not_move() -> None:
    items = [replace(item, group=f"g{row // 4}") for row, item in enumerate(pairs(400))]
    first, again = inspect_data(items, 16), inspect_data(items, 16)
    assert np.array_equal(first.plan.codes, again.plan.codes)
    assert all(len(set(rows)) == 1 for rows in first.plan.codes.reshape(-1, 4).tolist())
    assert first.report["splits"] == {"train": 320, "val": 40, "test": 40}
    turned = inspect_data(items[::-1], 16)
    assert np.array_equal(turned.plan.codes[::-1], first.plan.codes)


def test_declared_splits_are_kept() -> None:
    names = ["train"] * 70 + ["test"] * 30
    items = [replace(item, split=name) for item, name in zip(pairs(100), names, strict=True)]
    codes = inspect_data(items, 16).plan.codes
    assert set(codes[70:]) == {TEST}
    assert (codes[:70] == VAL).sum() == 7
    assert (codes[:70] == TRAIN).sum() == 63


def test_repetitions_and_leaks_are_left_out() -> None:
    items = [
        replace(item, split=name) for item, name in zip(pairs(90), ["train", "val", "test"] * 30, strict=True)
    ]
    items.append(replace(items[0], key="again"))  # exactly the same pair
    items.append(
        replace(items[3], key="leak", split="test", captions=("other words",) * 2)
    )  # a training picture
    items.append(
        replace(items[2], key="group", group=items[0].group, probabilities=items[0].probabilities[::-1])
    )
    quality = inspect_data(items, 16)
    assert quality.report["duplicates"]["exact"] == 1
    assert (quality.report["leaks"]["groups"], quality.report["leaks"]["contents"]) == (2, 0)
    assert quality.plan.codes[-3:].tolist() == [LEFT_OUT] * 3
    assert "held-out items stand in training too" in " ".join(quality.report["notes"])


def test_nearly_the_same_picture_does_not_judge() -> None:
    items = [
        replace(item, split=name) for item, name in zip(pairs(90), ["train", "val", "test"] * 30, strict=True)
    ]
    noise = np.random.default_rng(0).normal(1, 0.02, 1000)
    again = (items[0].probabilities.astype(float) * noise).astype(np.float16)
    items.append(replace(items[0], key="near", group="near", split="test", probabilities=again))
    quality = inspect_data(items, 16)
    assert quality.report["duplicates"]["near"] == 1
    assert quality.report["leaks"]["near"] == 1
    assert quality.plan.codes[-1] == LEFT_OUT


def test_one_thing_in_another_colour_is_another_picture() -> None:
    items = pairs(40)
    red, blue = (np.eye(11, dtype=np.float16)[colour] for colour in (3, 7))
    items[0] = replace(items[0], colours=red)
    items.append(replace(items[0], key="blue", group="blue", split="test", colours=blue))
    assert inspect_data(items, 4).report["duplicates"]["near"] == 0


def test_one_group_that_outweighs_is_told() -> None:
    items = [
        replace(item, group="big", split="train") if row < 60 else item for row, item in enumerate(pairs(100))
    ]
    assert any("of one group" in note for note in inspect_data(items, 16).report["notes"])


# --- Batches --------------------------------------------------------------------------------------------------


def test_shuffling_loses_nothing_and_holds_little() -> None:
    taken = 0

    def source() -> Any:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    stream = shuffled(source(), np.random.default_rng(0), 50)
    first = next(stream)
    assert taken <= 52
    mixed = [first, *stream]
    assert sorted(mixed) == list(range(1000))
    assert mixed != list(range(1000))


def test_processes_share_each_batch() -> None:
    items = pairs(103, captions=1)
    whole = list(batches(items, Order((1,), 10)))
    parts = [list(batches(items, Order((1,), 10, rank=rank, world=2))) for rank in (0, 1)]
    for alone, left, right in zip(whole, *parts, strict=True):
        together = [item.key for item in (*left[0], *right[0])]
        assert together == [item.key for item in alone[0]][: len(together)]
        assert left[1] == alone[1]


def test_an_epoch_can_begin_in_its_middle() -> None:
    items = pairs(60, captions=1)
    whole = [[one.key for one in mine] for mine, _, _ in batches(items, Order((1,), 10))]
    rest = [[one.key for one in mine] for mine, _, _ in batches(items, Order((1,), 10, start=30))]
    assert rest == whole[3:]


def test_errors_of_the_reading_thread_arrive() -> None:
    def broken() -> Any:
        yield from pairs(20, captions=1)
        raise TrainingError("unreadable", "a shard vanished")

    with pytest.raises(TrainingError, match="vanished"):
        list(prefetched(broken(), Order((1,), 4), lambda items, rng: len(items)))


def test_a_selection_streams_what_is_large_and_keeps_what_is_small() -> None:
    class Counted:
        started = 0

        def __iter__(self) -> Any:
            self.started += 1
            return iter(range(10))

    plan = Plan(np.array([TRAIN, VAL] * 5, np.uint8))
    for keep, expected in ((0, 3), (5, 1)):
        counted = Counted()
        selection = Selection(counted, plan, VAL, keep)
        assert [list(selection) for _ in range(3)] == [[1, 3, 5, 7, 9]] * 3
        assert counted.started == expected


# --- Raw sources ----------------------------------------------------------------------------------------------


def tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


SAID = {"captions": ["a cat", 3, "a cat", "cats"], "split": "validation"}


def test_a_webdataset_is_read(tmp_path: Path) -> None:
    url = tar(
        tmp_path / "a.tar",
        {
            "x/1.jpg": b"jpg", "x/1.txt": b" a dog \n",
            "x/2.png": b"png", "x/2.json": json.dumps(SAID).encode(),
            "x/3.jpg": b"jpg", "x/3.cls": b"7", "x/3.txt": b"a cup",
            "x/4.txt": b"nothing to see",
            "x/5.jpg": b"jpg",
            "x/6.jpg": b"jpg", "x/6.json": b"{" * 9000,
            "../../etc/7.jpg": b"jpg", "../../etc/7.txt": b"\xff\xfe odd",
        },
    )  # fmt: skip
    entries = list(raw_pairs([url]))
    good = [entry for entry in entries if isinstance(entry, RawPair)]
    assert [(one.key, one.group, one.split, one.captions) for one in good] == [
        ("x/1", "x/1", "", ("a dog",)),
        ("x/2", "x/2", "val", ("a cat", "cats")),
        ("x/3", "7", "", ("a cup",)),
        ("../../etc/7", "../../etc/7", "", ("�� odd",)),
    ]
    assert [(one.key, one.reason) for one in entries if isinstance(one, Unreadable)] == [
        ("x/4", "no picture"), ("x/5", "no caption"), ("x/6", "no caption"),
    ]  # fmt: skip


def test_a_tar_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    url = tar(tmp_path / "a.tar", {f"{row}.{end}": b"z" * 600 for row in range(5) for end in ("jpg", "txt")})
    whole = Path(url).read_bytes()
    Path(url).write_bytes(whole[: len(whole) // 2])
    entries = list(raw_pairs([url, str(tmp_path / "missing.tar")]))
    assert isinstance(entries[0], RawPair)
    assert [type(entry) for entry in entries[-2:]] == [Unreadable, Unreadable]


def test_a_huge_member_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        info = tarfile.TarInfo("1.jpg")
        info.size = LARGEST_MEMBER + 1
        file.write(info.tobuf())
        file.seek(info.size + 511 & ~511, 1)
        file.write(b"\0" * 1024)
    assert list(raw_pairs([str(path)])) == [Unreadable("1", "no picture")]


def test_parquet_with_pictures_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": {"bytes": b"jpg", "path": "x"}, "caption": "a dog", "group": "g"},
        {"id": "b", "image": {"bytes": b"jpg", "path": "x"}, "caption": None, "group": None},
        {"id": None, "image": None, "caption": "a cat", "group": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second, third = raw_pairs([str(tmp_path)])
    assert first == RawPair("a", "g", "", ("a dog",), b"jpg")
    assert second == Unreadable("b", "no caption")
    assert isinstance(third, Unreadable)
    assert third.reason == "no picture"


def test_urls_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        list(raw_pairs([str(tmp_path / "a.zip")]))
    assert caught.value.code == "unknown_source"
    assert isinstance(next(iter(raw_pairs(["nowhere://x/a.tar"]))), Unreadable)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], str]]:
    """Put a file into a bucket of a server in this process; its URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="shop")

    def put(key: str, path: Path) -> str:
        client.upload_file(str(path), "shop", key)
        return f"s3://shop/{key}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"

    yield put
    server.stop()


def test_a_bucket_is_read_as_a_stream(tmp_path: Path, bucket: Callable[[str, Path], str]) -> None:
    items = pairs(40)
    url = bucket("train/part-0.parquet", Path(write(tmp_path, items)[0]))
    folder = url.replace("train/part-0.parquet", "train")
    assert all(equal(*both) for both in zip(items, read_pairs([folder]), strict=True))
    assert isinstance(next(iter(raw_pairs([url.replace("part-0", "part-9")]))), Unreadable)
