"""Puts the package under test on the path, wherever the tests are started from. Import it before lockstep."""

import sys
from pathlib import Path

ENGINE_FOLDER = Path(__file__).resolve().parents[1]
BUNDLE = str(Path(__file__).resolve().parent / "bundle")
sys.path.insert(0, str(ENGINE_FOLDER))
