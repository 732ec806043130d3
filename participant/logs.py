"""How the agent talks to whoever started it: colours on a terminal, plain lines in a file."""

from __future__ import annotations

import logging
import sys

from rich.console import Console
from rich.logging import RichHandler


def set_up(console: Console, level: int = logging.INFO) -> None:
    """Send this package's messages to the console: short on a terminal, with time and level in a file."""
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="[%X]"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("participant", "models", "crypto"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
