"""The shortest recurrence of a sequence, by which wrong shares are located."""

from __future__ import annotations

import pytest
from python_shamir import KEY, python_residues

from crypto import shamir
from crypto.shamir import P


def continued(recurrence: list[int], start: list[int], length: int) -> list[int]:
    """The sequence that begins so and obeys (1, c_1, ..., c_L), in Python's integers."""
    sequence = list(start)
    while len(sequence) < length:
        sequence.append(-sum(c * sequence[-k] for k, c in enumerate(recurrence) if k) % P)
    return sequence


def obeys(sequence: list[int], recurrence: list[int], order: int) -> bool:
    return all(
        sum(c * sequence[n - k] for k, c in enumerate(recurrence) if n >= k) % P == 0
        for n in range(order, len(sequence))
    )


@pytest.mark.parametrize("order", range(1, 7))
def test_the_shortest_recurrence_of_a_sequence(order):
    """Twice as many terms as its order determine it; begun with zeros, it is found out late."""
    drawn = python_residues(KEY, 40 * order)
    for trial in range(20):
        recurrence = [1, *drawn[trial * order : (trial + 1) * order]]
        zeros = trial % order
        start = [0] * zeros + drawn[20 * order + trial : 21 * order + trial - zeros]
        sequence = continued(recurrence, start, 2 * order)
        found, length = shamir._shortest_recurrence(sequence)
        assert length == order
        assert (found + [0] * order)[: order + 1] == recurrence
        assert obeys(sequence, found, length)


@pytest.mark.parametrize(
    ("sequence", "order"),
    [
        ([], 0),
        ([0, 0, 0, 0], 0),
        ([1, 0, 0, 0], 1),  # c_1 = 0
        ([0, 0, 0, 1], 4),  # nothing shorter explains the one
        ([0, 0, 1, 0, 0, 1], 3),
        ([1, 1, 2, 3, 5, 8], 2),
        ([1, 2, 4, 8, 16, 33], 5),  # the last term breaks the powers of two
        ([1, 1, 1, 1, 0, 1], 4),
    ],
)
def test_sequences_whose_shortest_recurrence_is_known(sequence, order):
    found, length = shamir._shortest_recurrence(sequence)
    assert length == order
    assert found[0] == 1
    assert all(0 <= c < P for c in found)
    assert obeys(sequence, found, length)
