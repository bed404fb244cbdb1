"""What a broker of Kafka keeps, in a folder: records by partition and the offsets that a group has committed.

For the contract of `tenants.pipeline.streams.brokers.KafkaClient`; no Kafka was ever run with these tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenants.pipeline.streams import brokers


class Topic:
    """A topic with one partition for each two records that come."""

    def __init__(self, folder: Path) -> None:
        self.records, self.offsets = folder / "records", folder / "offsets"
        self.records.touch()

    def append(self, value: bytes, partition: int = 0) -> None:
        with self.records.open("a") as file:
            file.write(json.dumps([partition, value.decode("latin-1")]) + "\n")

    def all(self) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {0: []}
        for line in self.records.read_text().splitlines():
            partition, value = json.loads(line)
            found.setdefault(partition, []).append(value.encode("latin-1"))
        return found

    def committed(self) -> dict[int, int]:
        if not self.offsets.exists():
            return {}
        return {int(key): value for key, value in json.loads(self.offsets.read_text()).items()}

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.offsets.write_text(json.dumps({**self.committed(), **offsets}))

    def waiting(self) -> int:
        committed = self.committed()
        return sum(len(values) - committed.get(partition, 0) for partition, values in self.all().items())


class Client:
    """A client of a group: begins at what was committed, until it is told to seek."""

    def __init__(self, folder: Path) -> None:
        self.topic = Topic(folder)
        self.next: dict[int, int] = {}

    def start(self) -> None:
        self.next = self.topic.committed()

    def seek(self, partition: int, offset: int) -> None:
        self.next[partition] = offset

    def poll(self, most: int, timeout_s: float) -> list[tuple[int, int, bytes | None, bytes]]:
        found: list[tuple[int, int, bytes | None, bytes]] = []
        for partition, values in self.topic.all().items():
            first = self.next.get(partition, 0)
            some = values[first : first + most - len(found)]
            found += [(partition, first + n, None, value) for n, value in enumerate(some)]
            self.next[partition] = first + len(some)
        return found

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.topic.commit(offsets)

    def lag(self) -> int | None:
        return sum(len(values) - self.next.get(number, 0) for number, values in self.topic.all().items())

    def stop(self) -> None:
        self.next = {}


def client_of(folder: Path) -> Any:
    return lambda *_, **__: Client(folder)


def use(folder: str) -> None:
    """Let this process's consumers read it."""
    brokers.AioKafka = client_of(Path(folder))  # type: ignore[misc]
