"""By which path a file is read, so that nobody can take it away meanwhile (ops/views.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Opened = Callable[[Path], Path]
"""Returns it; a file that has gone already raises FileNotFoundError."""
