"""What holds for every test."""

from __future__ import annotations

import os

# Tables are printed to the terminal's width, which the commands' consoles ask for as they are imported: without this,
# what a test finds in a row would hang on whose terminal runs it.
os.environ["COLUMNS"] = "300"
