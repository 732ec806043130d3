"""Text burnt into the pixels: it may name the patient, and a network may read it."""

from __future__ import annotations

from participant.data.checks.facts import Data
from participant.data.checks.report import CaseNote, Finding


def findings(data: Data) -> list[Finding]:
    notes = []
    for each in data.facts:
        said = ["the file says so (BurnedInAnnotation)"] if each.header.burned_in else []
        if each.text_lines:
            said.append(f"{each.text_lines} row{'s' if each.text_lines > 1 else ''} of bright letters near the border")
        if said:
            notes.append(CaseNote(case=each.name, note="; ".join(said)))
    if not notes:
        return []
    return [
        Finding(
            kind="burnt-in-text",
            severity="warning",
            what=f"{len(notes)} of {len(data.facts)} cases may have text burnt into the image",
            why="A network learns stamps that go with a class in place of the disease, and text may name a patient, "
            "also in pictures that you show to others. Found where the file says so, or where three or more small, "
            "bright, sharp shapes of one height stand in a row near the border. That misses dark letters and text in "
            "the middle, and may take wires or screws for letters.",
            fix="Look at them. Export without overlays, or cover the text, and see to it that no class has more of it.",
            cases=tuple(notes),
        )
    ]
