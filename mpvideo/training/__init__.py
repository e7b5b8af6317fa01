"""Training: what makes a checkpoint. Sources: EDM2 (arXiv 2312.02696) and EDM (arXiv 2206.00364)."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes a line of text about how it goes."""
