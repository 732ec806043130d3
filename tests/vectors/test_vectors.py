"""The protocol's reference vectors, and every file of their form in the folder named by PLEURA_VECTORS.

`lwe.json` and its like: keys, messages and digests, as section 8 of the protocol describes them. `lanes.json`: opened
count lanes, with what must come of them ("expect": "counts", or the name of the error).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from crypto import errors
from crypto.lanes import LaneFormat, decode_counts
from crypto.lwe import Sealer, Unsealer, add, check_secret_sum
from crypto.parameters import PART_POLYNOMIALS, PART_VALUES, N
from crypto.sampling import binomial, keystream, public_seed

HERE = Path(__file__).parent


class Mismatch(Exception):
    """A field of a vector that we compute differently."""


def lwe_files():
    folder = os.environ.get("PLEURA_VECTORS")
    extra = sorted(Path(folder).iterdir()) if folder else []  # a folder that is not there is an error, not no vectors
    return [HERE / "lwe.json", *(file for file in extra if file.suffix == ".json")]


def compare(field, computed, stated):
    if computed != stated:
        raise Mismatch(field)


def compare_array(prefix, values, vector):
    """Head (where stated) and digest of an array; the digest is over little-endian u32, negatives wrapped."""
    head = vector.get(f"{prefix}_head", [])
    compare(f"{prefix}_head", values[: len(head)].tolist(), head)
    if f"{prefix}_sha256" in vector:
        digest = hashlib.sha256(values.astype("<u4").tobytes()).hexdigest()
        compare(f"{prefix}_sha256", digest, vector[f"{prefix}_sha256"])


def messages_of(site, size):
    key = hashlib.sha256(site["message_key"].encode("ascii")).digest()
    words = keystream(key, 0, 4 * size).view("<u4")
    return (words & (2**25 - 1)).astype(np.int32) - 2**24


def by_parts(size):
    return [(index, slice(start, start + PART_VALUES)) for index, start in enumerate(range(0, size, PART_VALUES))]


def check_site(study, site, size):
    """The site's sealer, messages, errors and ciphertext, each compared with what the vector states."""
    error_key = bytes.fromhex(site["error_key"])
    sealer = Sealer(study, bytes.fromhex(site["secret_key"]), error_key)
    messages, noise = messages_of(site, size), binomial(error_key, 0, size)
    body = np.concatenate([sealer.seal_part(index, messages[piece]) for index, piece in by_parts(size)])
    compare_array("secret", sealer.secret, site)
    compare_array("error", noise, site)
    compare_array("message", messages, site)
    compare_array("ciphertext", body, site)
    return sealer.secret, messages.astype(np.int64) + noise, body


def check(vector):
    """Recompute a whole vector.

    Raises:
        Mismatch: naming the first field that differs.
    """
    study, size = uuid.UUID(hex=vector["study_id"]), vector["polynomials"] * N
    compare("public_seed", public_seed(study).hex(), vector["public_seed"])
    total, secret_sum, expected = np.zeros(size, np.uint32), np.zeros(N, np.int64), np.zeros(size, np.int64)
    for site in vector["sites"]:
        secret, plain, body = check_site(study, site, size)
        add(total, body)
        secret_sum += secret
        expected += plain
    check_secret_sum(secret_sum, len(vector["sites"]))
    unsealer = Unsealer(study, secret_sum)
    opened = np.concatenate([unsealer.unseal_part(index, total[piece]) for index, piece in by_parts(size)])
    compare("messages and errors", opened.tolist(), expected.astype(np.int32).tolist())
    compare_array("ciphertext", total, vector["sum"])
    compare_array("secret_sum", secret_sum, vector["sum"])
    compare_array("unsealed", opened, vector["sum"])


def load(file):
    vector = json.loads(file.read_text())
    if not isinstance(vector, dict) or not {"study_id", "sites", "sum"} <= vector.keys():
        pytest.skip(f"{file.name} has another form than lwe.json")
    return vector


@pytest.mark.parametrize("file", lwe_files(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_reference_vector(file):
    check(load(file))


def stated_fields(value, path=()):
    """Paths of all leaves of a vector that state a result (keys and sizes are what it is computed from)."""
    inputs = {"secret_key", "error_key", "message_key", "polynomials", "study_id"}
    if isinstance(value, dict):
        return [leaf for key in value if key not in inputs for leaf in stated_fields(value[key], (*path, key))]
    if isinstance(value, list) and isinstance(value[0], dict):
        return [leaf for i, item in enumerate(value) for leaf in stated_fields(item, (*path, i))]
    return [path]


def corrupt(vector, path):
    """A copy with one hexadecimal digit, or one number, of one field changed."""
    changed = copy.deepcopy(vector)
    place = changed
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    place[path[-1]] = [old[0] + 1, *old[1:]] if isinstance(old, list) else ("1" if old[0] == "0" else "0") + old[1:]
    return changed


VECTOR = json.loads((HERE / "lwe.json").read_text())


@pytest.mark.parametrize("path", stated_fields(VECTOR), ids=lambda path: "/".join(map(str, path)))
def test_a_corrupted_vector_fails_and_says_where(path):
    with pytest.raises(Mismatch, match=path[-1]):
        check(corrupt(VECTOR, path))


@pytest.mark.parametrize("key", ["secret_key", "error_key"])
def test_a_vector_with_another_key_fails(key):
    with pytest.raises(Mismatch):
        check(corrupt(VECTOR, ("sites", 0, key)))


def test_extra_vectors_are_taken_from_the_named_folder(tmp_path, monkeypatch):
    (tmp_path / "more.json").write_text(json.dumps(VECTOR))
    monkeypatch.setenv("PLEURA_VECTORS", str(tmp_path))
    assert [file.name for file in lwe_files()] == ["lwe.json", "more.json"]


def test_a_vector_of_more_than_one_part():
    """Sealed in parts of 512 polynomials, a body is what one application of the formula gives."""
    assert by_parts((PART_POLYNOMIALS + 1) * N)[1] == (1, slice(PART_VALUES, 2 * PART_VALUES))
    long = {
        "study_id": VECTOR["study_id"],
        "public_seed": VECTOR["public_seed"],
        "polynomials": PART_POLYNOMIALS + 1,
        "sites": [{key: site[key] for key in site if key.endswith("_key")} for site in VECTOR["sites"]],
        "sum": {},
    }
    check(long)


CASES = json.loads((HERE / "lanes.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_opened_count_lanes(case):
    lanes, lane_format = np.array(case["lanes"], np.int32), LaneFormat(case["k_max"])
    if case["expect"] == "counts":
        assert decode_counts(lanes, case["number"], lane_format) == case["counts"]
    else:
        with pytest.raises(getattr(errors, case["expect"])):
            decode_counts(lanes, case["number"], lane_format)
