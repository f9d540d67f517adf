"""Windows of a text: which there are, how likely each is, and that an epoch has each once."""

import numpy as np
import pytest
import torch
from small import MUON, T, a_model, run

from minigpt.batches import epoch_batch, random_batch


def as_memmap(ids, folder):
    path = folder / "ids"
    path.write_bytes(ids.astype(np.uint16).tobytes())
    return np.memmap(path, np.uint16, mode="r")


KINDS = {"array": lambda ids, folder: ids, "memmap": as_memmap, "tensor": lambda ids, folder: torch.from_numpy(ids)}


@pytest.mark.parametrize("kind", KINDS)
def test_y_is_x_one_token_later_in_the_text(kind, tmp_path):
    ids = KINDS[kind](np.arange(100), tmp_path)
    x, y = random_batch(ids, 7, 50)
    assert x.shape == y.shape == (50, 7) and x.dtype == y.dtype == torch.int64
    assert torch.equal(x, x[:, :1] + torch.arange(7)) and torch.equal(y, x + 1)


def test_every_possible_start_is_equally_likely():
    n_starts, draws = 13, 13_000
    x, _ = random_batch(np.arange(n_starts + 5), 5, draws, torch.Generator().manual_seed(1))
    counts = torch.bincount(x[:, 0], minlength=n_starts)
    assert len(counts) == n_starts
    chi_square = float(((counts - draws / n_starts) ** 2 / (draws / n_starts)).sum())
    assert chi_square < 32.9                                            # 12 degrees of freedom: 1 in 1,000 is above


def test_a_text_of_one_window_gives_that_window():
    x, y = random_batch(np.arange(5), 4, 3)
    assert x.tolist() == [[0, 1, 2, 3]] * 3 and y.tolist() == [[1, 2, 3, 4]] * 3


class CountedIds(np.ndarray):
    """An array that counts how often it is indexed."""

    lookups = 0

    def __getitem__(self, index):
        CountedIds.lookups += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("n, size", [(100, 4), (100, 16), (12, 4), (T + 1, 3), (2 * T, 5), (3 * T + 1, 5), (1000, 1)])
def test_an_epoch_has_every_window_once_in_random_order(n, size):
    n_windows = max(1, (n - 1 - T) // T)
    batches = [epoch_batch(np.arange(n), T, size, step, seed=4) for step in range(3 * n_windows)]
    x, y = (torch.cat(side) for side in zip(*batches, strict=True))
    assert x.shape == (3 * n_windows * size, T) and torch.equal(y, x + 1) and torch.equal(x, x[:, :1] + torch.arange(T))
    orders = x[:3 * size * n_windows, 0].view(-1, n_windows)             # one epoch a row
    for starts in orders:
        sorted_starts = starts.sort().values
        assert (sorted_starts.diff() == T).all()                         # end to end, each once
        assert sorted_starts[0] >= 0 and sorted_starts[-1] + T < n
    if n_windows > 5:
        assert len({tuple(starts.tolist()) for starts in orders}) == len(orders)


def test_over_the_epochs_every_token_is_read_and_predicted_the_last_one_too():
    n = 5 * T + 3
    batches = [epoch_batch(np.arange(n), T, 4, step) for step in range(100)]
    assert {i for x, _ in batches for i in x.flatten().tolist()} == set(range(n - 1))
    assert {i for _, y in batches for i in y.flatten().tolist()} == set(range(1, n))


def test_the_batch_of_a_step_depends_on_the_step_and_the_seed_alone():
    ids = np.arange(400)
    expected = epoch_batch(ids, T, 8, 11, seed=2)[0]
    epoch_batch(ids, T, 8, 70, seed=3)
    assert torch.equal(epoch_batch(ids, T, 8, 11, seed=2)[0], expected)
    assert not torch.equal(epoch_batch(ids, T, 8, 11, seed=3)[0], expected)
    assert not torch.equal(epoch_batch(ids, T, 8, 12, seed=2)[0], expected)


def test_the_smallest_and_the_largest_seed_are_taken():
    for seed in 0, 2 ** 32 - 1:
        assert epoch_batch(np.arange(100), T, 4, 0, seed)[0].shape == (4, T)
        assert len(run(a_model(), MUON, steps=1, seed=seed)[0]) == 1
