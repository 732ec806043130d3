"""The vessels of a lung as a tree that fills it from the hilum, and the few airways that CT resolves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tree:
    """A branching tree: points (n, 3) as (z, y, x) and radii (n,) in mm, and each point's parent, -1 at the root."""

    points: NDArray[np.float64]
    parents: NDArray[np.int64]
    radii: NDArray[np.float64]


def grow_tree(
    root: NDArray[np.float64], targets: NDArray[np.float64], leaf_radius: float, rng: np.random.Generator
) -> Tree:
    """Connect each target, nearest to the root first, to the tree that there is by then.

    A detour along the tree costs a third of its length, which makes branches leave at the acute angles of real vessels.
    The radius grows with the cube root of the leaves that a branch feeds (Murray's law).
    """
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    size = 1 + 3 * len(targets)
    points, parents, length = np.zeros((size, 3)), np.full(size, -1), np.zeros(size)
    points[0], used = root, 1
    for target in targets[order]:
        gap = np.linalg.norm(points[:used] - target, axis=1)
        parent = int(np.argmin(gap + 0.33 * length[:used]))
        path = points[parent] + np.array([[1 / 3], [2 / 3], [1.0]]) * (target - points[parent])
        path[:2] += rng.normal(0, 0.06 * gap[parent], (2, 3))
        points[used : used + 3] = path
        parents[used : used + 3] = [parent, used, used + 1]
        length[used : used + 3] = length[parent] + gap[parent] * np.array([1 / 3, 2 / 3, 1.0])
        used += 3
    leaves = np.zeros(size)
    leaves[3::3] = 1
    for node in range(size - 1, 0, -1):
        leaves[parents[node]] += leaves[node]
    return Tree(points, parents, leaf_radius * np.cbrt(leaves))
