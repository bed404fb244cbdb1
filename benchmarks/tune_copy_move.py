"""Calibrate copy-move on its tuning photos (`python benchmarks/tune_copy_move.py`): ml/auditing/weights/copy-move-1.

The photos of part 0 of the open sets, untouched and with a copied region, as PNG and at JPEG 75.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _audit_forgeries import forge, repetitive
from _audit_statistics import CODECS, photos
from _report import TOY, Report, sized, skip

from ml.auditing.calibration import fit
from ml.detectors.copy_move import CALIBRATION, LEAST_KEYPOINTS, find_copies, score_of, to_working_size

PHOTOS = sized(100, 2)


def main() -> int:
    report = Report("tune_copy_move")
    return report.finish(report.run("calibration", tune) or {})


def tune() -> dict[str, Any]:
    found = photos(0, PHOTOS)
    if found is None:
        skip("grocery_store and playground_50_50: nothing to calibrate on")
        return {}
    rng = np.random.default_rng(0)
    scores, labels, groups = [], [], []
    patterns = [one for _ in range(sized(3, 1)) for one in repetitive(rng)[: sized(None, 1)]]
    pictures = [*found, *patterns]
    for name, pixels in pictures:
        forgery = forge(pixels, rng) if name not in ("bricks", "cloth", "windows", "text") else None
        for forged, item in ((False, pixels), (True, forgery.pixels if forgery else None)):
            for save in CODECS.values() if item is not None else ():
                copies, keypoints = find_copies(to_working_size(save(item)))
                if keypoints >= LEAST_KEYPOINTS:
                    scores.append(score_of(copies))
                    labels.append(forged)
                    groups.append(name)
    # Enough of them for a curve, whatever it then says.
    times = sized(1, 20)
    scores, labels, groups = scores * times, labels * times, groups * times
    note = "copied regions in photos of grocery_store and playground_50_50 (part 0), PNG and JPEG 75"
    calibration = fit(scores, labels, groups=groups, note=note)
    if not TOY:
        CALIBRATION.parent.mkdir(parents=True, exist_ok=True)
        CALIBRATION.write_text(calibration.dumps() + "\n")
    x, y = np.asarray(scores), np.asarray(labels)
    print(f"{y.sum()} forgeries, {(~y).sum()} untouched")
    for name, limit in (("likely", calibration.likely_from), ("none below", calibration.none_below)):
        if limit is not None:
            print(
                f"{name} {limit:.3f}: {(x[y] >= limit).mean():.3f} of forgeries,"
                f" {(x[~y] >= limit).mean():.3f} of others"
            )

    return {"forgeries": int(y.sum()), "untouched": int((~y).sum())}


if __name__ == "__main__":
    raise SystemExit(main())
