"""Rows in cells around centroids, four bits for two numbers, scored by tables in registers: 80 bytes a row.

A quarter of the bytes of `ivf_sq8` pass through memory, at the cost of many more rows to score again. The method is
that of Andre, Kermarrec and Le Scouarnec, "Cache locality is not enough", VLDB 2015, as faiss has it.
"""

from __future__ import annotations

from typing import Any

import faiss

from ml.indexes.cells import Cells


class IvfPq4(Cells):
    """Of a million vectors with an intrinsic dimension of 11 the ten best are among the 400 best codes."""

    @classmethod
    def empty(cls, quantizer: Any, dimension: int, cells: int) -> Any:
        index = faiss.IndexIVFPQFastScan(
            quantizer,
            dimension,
            cells,
            dimension if dimension % 2 else dimension // 2,
            4,
            faiss.METRIC_INNER_PRODUCT,
        )
        # Codes of the rows themselves: one table a query serves all cells.
        index.by_residual = False
        return index

    @staticmethod
    def looked_at(k: int) -> int:
        return max(400, 4 * k)
