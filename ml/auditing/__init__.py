"""Looking at content for signs of abuse and fabrication: detectors run in a limited child process.

``Examiner.examine`` gives what each detector found; ``authenticity`` and ``categories`` make a verdict of it without
mixing facts and estimates. What stands here is for everybody; the other modules are for detectors and their training.
"""

from ml.auditing.counting import counts_of
from ml.auditing.examiner import DetectorResult, Examination, Examiner, Subject, load_or_placeholder
from ml.auditing.fusion import (
    CATEGORIES,
    ESTIMATES,
    LOOKED_FOR,
    TIERS,
    VERDICTS,
    authenticity,
    categories,
    merged_fields,
)

__all__ = [
    "CATEGORIES",
    "ESTIMATES",
    "LOOKED_FOR",
    "TIERS",
    "VERDICTS",
    "DetectorResult",
    "Examination",
    "Examiner",
    "Subject",
    "authenticity",
    "categories",
    "counts_of",
    "load_or_placeholder",
    "merged_fields",
]
