"""Whatever bytes arrive, their readers take them or refuse them as documented (see fuzz.py)."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_child
import fuzz_messages
import pytest
from fuzz_format import Format
from fuzz_mutations import Tape, spoil_bytes, spoil_json

from crypto.manifest import Manifest, Vote
from crypto.plan import Plan, Roster

SHORT, LONG = 3_000, 100_000


@pytest.mark.parametrize("group", fuzz.GROUPS)
def test_no_bytes_surprise_their_reader(group, tmp_path):
    done = fuzz.run_group(group, round(SHORT * fuzz.GROUPS[group]), seed=1, kept=tmp_path)
    assert sum(done["taken"].values()) < done["cases"]


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", fuzz.GROUPS)
def test_no_bytes_surprise_their_reader_at_length(group, tmp_path):
    done = fuzz.run_group(group, round(LONG * fuzz.GROUPS[group]), secrets.randbelow(2**32), tmp_path, seconds=880.0)
    assert done["peak_mib"] < 1024


def test_the_peak_is_the_childs_own(tmp_path):
    ballast = bytearray(900 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert fuzz.run_group("messages", 50, seed=1, kept=tmp_path)["peak_mib"] < 900


def test_all_cases_are_shared_out():
    assert sum(round(LONG * share) for share in fuzz.GROUPS.values()) == LONG
    chosen = [Format(str(weight), (), bytes, (), spoil_bytes, weight) for weight in (1, 10, 30)]
    assert fuzz_child.shares(chosen, 4100) == [100, 1000, 3000]
    assert sum(fuzz_child.shares(chosen, 4099)) == 4099


def test_every_kind_of_message_is_fuzzed():
    """Kinds are found, not listed: one that is added to `crypto` tomorrow is among them."""
    kinds = fuzz_messages.message_kinds()
    assert {Plan, Roster, Manifest, Vote} <= set(kinds)
    assert len({kind.kind_name for kind in kinds}) == len(kinds)
    names = {each.name for each in fuzz_messages.formats()}
    assert {f"{kind.__name__}.decode" for kind in kinds} <= names


def test_a_tape_of_nothing_changes_nothing():
    for seed in (b'{"a":[1,2.5,"x"],"b":null}', b"[]"):
        assert spoil_json(seed, Tape(b"")) == seed
        assert spoil_bytes(seed, Tape(b"")) == seed


def test_tapes_spoil_in_many_ways():
    seed = b'{"a":[1,2.5,"x"],"b":{"c":"d"}}'
    chance = random.Random(1)
    tapes = [chance.randbytes(12) for _ in range(1000)]
    assert len({spoil_json(seed, Tape(tape)) for tape in tapes}) > 500
    assert len({spoil_bytes(seed, Tape(tape)) for tape in tapes}) > 700


# --- the child notices what it is there for

ENDS = {
    "error": ("raise KeyError(1)", "exit status 1"),
    "crash": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "hang": ("while True: pass", "SIGPROF"),
    "memory": ("bytearray(300 << 20)", "exit status 1"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_reader_that_misbehaves_is_found_with_its_bytes(end, tmp_path, monkeypatch):
    statement, words = ENDS[end]
    module = f"""
from fuzz_format import Format
from fuzz_mutations import spoil_bytes

def read(data):
    if b"w" in data:
        {statement}

def formats():
    yield Format("fine", (b"abc",), bytes, (), spoil_bytes)
    yield Format("bad", (b"vvv",), read, (), spoil_bytes)
"""
    (tmp_path / "fuzz_bad.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(fuzz.Found, match=words):
        fuzz.run_group("bad", 10_000, 1, tmp_path / "kept", case_seconds=0.2)
    (case,) = (tmp_path / "kept").iterdir()
    number, data = fuzz_child.Case.last(case)
    assert number == 1
    assert b"w" in data


def test_a_kept_case_is_read_again(tmp_path):
    kept = tmp_path / "case"
    kept.write_bytes(bytes(fuzz_child.CASE_BYTES))
    fuzz_child.Case(kept).note(0, 0.0, b"not JSON")
    child = [sys.executable, str(Path(fuzz.HERE) / "fuzz_child.py"), "messages", str(kept)]
    answer = subprocess.run(child, capture_output=True, text=True, check=True)
    assert answer.stdout == "Approval.decode: refused as documented\n"
