"""The examining process as it is on a kernel without Landlock."""

from __future__ import annotations

import sys

from ml import sandbox
from ml.auditing import child

if __name__ == "__main__":
    sandbox.landlock_version = lambda: 0
    child.main(sys.argv[1:])
