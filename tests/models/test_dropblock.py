"""DropBlock: how much it takes out, in which form, and when."""

from __future__ import annotations

import math

import pytest
import torch

from models.dropblock import DropBlock3d, ScheduledDropBlock3d

LARGE, SMALL = (24, 40, 40), (4, 8, 8)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def expected_share(drop: float, block: int, sides: tuple[int, ...]) -> float:
    """Share of voxels under at least one block: each start that covers a voxel misses it with probability 1 - gamma."""
    blocks = [min(block, side) for side in sides]
    starts = [side - length + 1 for side, length in zip(sides, blocks, strict=True)]
    gamma = drop * math.prod(sides) / math.prod(blocks) / math.prod(starts)
    covering = torch.ones(1)
    for length, count in zip(blocks, starts, strict=True):
        along = torch.nn.functional.conv1d(torch.ones(1, 1, count), torch.ones(1, 1, length), padding=length - 1)
        covering = torch.outer(covering, along.flatten()).flatten()
    return float((1 - (1 - gamma) ** covering).mean())


@pytest.mark.parametrize(("drop", "sides"), [(0.1, LARGE), (0.5, LARGE), (0.1, SMALL), (0.5, SMALL), (0.3, (2, 3, 3))])
def test_the_expected_share_is_taken_out(drop: float, sides: tuple[int, ...]) -> None:
    features = torch.ones(4, max(8, 200_000 // math.prod(sides)), *sides)
    dropped = float((DropBlock3d(drop)(features) == 0).float().mean())
    assert dropped == pytest.approx(expected_share(drop, 5, sides), rel=0.06)
    assert dropped <= drop * 1.06


def test_the_sum_is_kept_and_what_stays_is_scaled_alike() -> None:
    features = torch.ones(2, 8, *LARGE)
    dropped = DropBlock3d(0.2)(features)
    assert float(dropped.sum()) == pytest.approx(features.numel(), rel=1e-4)
    assert len(dropped.unique()) == 2


def test_holes_are_whole_blocks_and_each_channel_has_its_own() -> None:
    # Blocks may overlap, but each voxel that is gone lies in a run of five along each axis.
    gone = DropBlock3d(0.002)(torch.ones(8, 8, *LARGE)) == 0
    assert gone.any()
    for axis in (2, 3, 4):
        runs = gone.movedim(axis, -1).unfold(-1, 5, 1).all(dim=-1)
        covered = torch.zeros_like(gone.movedim(axis, -1))
        for shift in range(5):
            covered[..., shift : shift + runs.shape[-1]] |= runs
        assert torch.equal(covered, gone.movedim(axis, -1))
    assert not torch.equal(gone[0, 0], gone[0, 1])


def test_blocks_of_one_voxel_are_dropout_and_blocks_of_the_whole_map_drop_channels() -> None:
    """The two limits that the paper names (its section 3)."""
    single = DropBlock3d(0.3, 1)(torch.ones(4, 8, *LARGE))
    assert float((single == 0).float().mean()) == pytest.approx(0.3, rel=0.01)
    assert float((single[:, :, 1:] == 0)[single[:, :, :-1] == 0].float().mean()) == pytest.approx(0.3, rel=0.02)
    gone = DropBlock3d(0.3, 8)(torch.ones(40, 100, *SMALL)) == 0
    assert torch.equal(gone.amin(dim=(2, 3, 4)), gone.amax(dim=(2, 3, 4)))
    assert float(gone.float().mean()) == pytest.approx(0.3, rel=0.1)


def test_the_share_of_starts_is_the_papers_equation_1() -> None:
    """gamma = (1 - keep_prob) / block_size^2 * feat_size^2 / (feat_size - block_size + 1)^2, here with a third side."""
    side, block, drop = 6, 5, 0.4
    gamma = drop / block**3 * side**3 / (side - block + 1) ** 3
    gone = (DropBlock3d(drop, block)(torch.ones(1, 10_000, side, side, side)) == 0).float().mean(dim=(0, 1))
    # A corner lies in the one block that starts there, the voxels in the middle in all eight that fit into the map.
    assert float(gone[0, 0, 0]) == pytest.approx(gamma, rel=0.12)
    assert float(gone[2, 3, 4]) == pytest.approx(1 - (1 - gamma) ** 8, rel=0.04)


def test_evaluation_changes_nothing() -> None:
    features = torch.rand(1, 2, *SMALL)
    block, scheduled = DropBlock3d(0.5).eval(), ScheduledDropBlock3d(0.5, 1).eval()
    assert torch.equal(block(features), features)
    assert torch.equal(scheduled(features), features)
    assert int(scheduled.taken) == 0


def test_everything_may_go_without_a_division_by_zero() -> None:
    outputs = [DropBlock3d(0.9)(torch.ones(1, 1, 2, 2, 2)) for _ in range(20)]
    assert any((output == 0).all() for output in outputs)
    assert all(output.isfinite().all() for output in outputs)


def test_the_schedule_grows_to_its_share_and_counts_in_an_integer_buffer() -> None:
    scheduled = ScheduledDropBlock3d(0.5, 4)
    features = torch.ones(2, 32, *LARGE)
    shares = [float((scheduled(features) == 0).float().mean()) for _ in range(6)]
    steps = [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert shares == pytest.approx([expected_share(drop, 5, LARGE) for drop in steps], rel=0.06)
    assert scheduled.state_dict()["taken"].dtype == torch.int64
    assert int(scheduled.taken) == 6


@pytest.mark.parametrize("arguments", [(1.0, 5), (-0.1, 5), (0.1, 0)])
def test_senseless_settings_are_refused(arguments: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="DropBlock takes out"):
        DropBlock3d(*arguments)
    with pytest.raises(ValueError, match="at least one step"):
        ScheduledDropBlock3d(0.1, 0)
