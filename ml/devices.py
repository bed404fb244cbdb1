"""On what the encoders of this process run, for metrics: loads no library."""

from __future__ import annotations

from collections import Counter

#: Sessions of ONNX Runtime that were opened, by ``cuda`` and ``cpu``.
opened: Counter[str] = Counter()
#: Batches that were halved because memory did not suffice.
halved = 0
