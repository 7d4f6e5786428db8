"""Where the repository is, and where real data are (tests that need them are skipped where they are absent)."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("OMNIMOTION_SHARED", ROOT.parent / "shared"))
CONFORMANCE = Path(os.environ.get("OMNIMOTION_CONFORMANCE", SHARED / "spec" / "conformance"))
