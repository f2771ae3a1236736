"""Feeds: inputs and targets, checked on texts whose characters are all different."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.data.feeds import Chunks, Stream, Windows, random_split, to_device_if_fits
from charlm.errors import DataError

patient = settings(deadline=None, max_examples=60)
sizes = {"n": st.integers(20, 300), "t": st.integers(1, 12), "b": st.integers(1, 15)}


def make(kind, ids, t, b, seed=0):
    return {"windows": Windows, "chunks": Chunks}[kind](ids, t, b, seed) if kind != "stream" else Stream(ids, t, b)


def epoch_of(feed, epoch=0):
    """Return all batches of an epoch."""
    return [feed.batch(epoch, step) for step in range(len(feed))]


def predicted(feed, epoch=0):
    """Return every target of an epoch in the order of the text; with `torch.arange` as text, its position."""
    return sorted(int(i) for _, targets in epoch_of(feed, epoch) for i in targets.flatten())


def elements(subset):
    return subset.elements(np.arange(len(subset))).tolist()


@pytest.fixture(params=["windows", "chunks", "stream"])
def kind(request):
    return request.param


@patient
@given(**sizes)
@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
def test_a_target_is_the_next_character(kind, n, t, b):
    feed = make(kind, torch.arange(n), t, b)
    for chars, targets in epoch_of(feed):
        assert chars.dtype == targets.dtype == torch.long
        assert 1 <= len(chars) <= b
        assert (chars[:, 1:] == chars[:, :-1] + 1).all()  # contiguous text
        if feed.predicts == "last":
            assert targets.shape == (len(chars), 1)
            assert (targets[:, 0] == chars[:, -1] + 1).all()
        else:
            assert (targets == chars + 1).all()


@patient
@given(**sizes, epoch=st.integers(0, 3))
def test_windows_predict_each_character_after_the_first_window_once(n, t, b, epoch):
    feed = Windows(torch.arange(n), t, b)
    assert predicted(feed, epoch) == list(range(t, n))
    assert [len(chars) for chars, _ in epoch_of(feed)][:-1] == [b] * (len(feed) - 1)


@patient
@given(**sizes, epoch=st.integers(0, 3))
def test_chunks_predict_each_character_once_except_a_rest_below_bptt(n, t, b, epoch):
    positions = predicted(Chunks(torch.arange(n), t, b), epoch)
    assert positions == list(range(1, len(positions) + 1))
    assert 0 <= n - 1 - len(positions) < t


@patient
@given(**sizes, epoch=st.integers(0, 3))
def test_a_stream_predicts_each_character_once_except_a_rest_below_the_batch_size(n, t, b, epoch):
    positions = predicted(Stream(torch.arange(n), t, b), epoch)
    assert positions == list(range(1, len(positions) + 1))
    assert 0 <= n - 1 - len(positions) < b


@patient
@given(n=st.integers(20, 200), t=st.integers(1, 9), stride=st.integers(1, 9))
def test_windows_begin_a_stride_apart(n, t, stride):
    feed = Windows(torch.arange(n), t, 5, stride=stride)
    firsts = sorted(int(i) for chars, _ in epoch_of(feed) for i in chars[:, 0])
    assert firsts == list(range(0, n - t, stride))
    assert len(firsts) == feed.n_rows


@patient
@given(**sizes)
def test_the_lanes_of_a_stream_continue_from_batch_to_batch(n, t, b):
    batches = [chars for chars, _ in epoch_of(Stream(torch.arange(n), t, b))]
    assert [len(chars) for chars in batches] == [b] * len(batches)
    for before, after in zip(batches, batches[1:], strict=False):
        assert before.shape[1] == t
        assert (after[:, 0] == before[:, -1] + 1).all()
    lanes = torch.cat(batches, dim=1)
    assert (lanes[1:, 0] == lanes[:-1, -1] + 1).all()  # each lane begins where the previous one ends


@patient
@given(**sizes, epoch=st.integers(0, 3))
@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
def test_row_offsets_are_the_positions_of_the_first_characters(kind, n, t, b, epoch):
    feed = make(kind, torch.arange(n), t, b)
    for step in range(len(feed)):
        assert feed.row_offsets(epoch, step).tolist() == feed.batch(epoch, step)[0][:, 0].tolist()


@patient
@given(st.permutations([(epoch, step) for epoch in range(3) for step in range(4)]))
@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
def test_a_batch_is_a_pure_function_of_epoch_and_step(kind, order):
    ids = torch.arange(45)
    feed = make(kind, ids, 5, 2)
    torch.rand(3)
    for epoch, step in order:
        fresh = make(kind, ids, 5, 2).batch(epoch, step)
        torch.testing.assert_close(feed.batch(epoch, step), fresh, rtol=0, atol=0)


def test_a_feed_does_not_touch_the_global_random_generator(kind):
    before = torch.get_rng_state()
    epoch_of(make(kind, torch.arange(45), 5, 2, seed=3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["windows", "chunks"])
def test_seeds_and_epochs_give_different_orders(kind):
    ids = torch.arange(400)
    orders = {
        tuple(chars[0, 0].item() for chars, _ in epoch_of(make(kind, ids, 4, 1, seed), epoch))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_a_stream_is_the_same_in_every_epoch():
    feed = Stream(torch.arange(50), 4, 3)
    torch.testing.assert_close(epoch_of(feed, 0), epoch_of(feed, 7), rtol=0, atol=0)


@patient
@given(n=st.integers(0, 300), held_out=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_random_split_is_a_partition(n, held_out, seed):
    train, valid = random_split(n, held_out, seed)
    assert len(valid) == round(n * held_out)
    assert sorted([*elements(train), *elements(valid)]) == list(range(n))


@pytest.mark.parametrize("kind", [Windows, Chunks])
def test_held_out_rows_are_not_trained_on(kind):
    ids, (kept, held_out) = torch.arange(101), random_split(kind(torch.arange(101), 4, 7).n_rows, 0.2, seed=1)
    train, valid = kind(ids, 4, 7, subset=kept), kind(ids, 4, 7, subset=held_out)
    assert set(predicted(train)).isdisjoint(predicted(valid))
    assert sorted(predicted(train) + predicted(valid)) == predicted(kind(ids, 4, 7))
    assert predicted(train, epoch=0) == predicted(train, epoch=1)


def test_another_seed_gives_another_split():
    assert elements(random_split(100, 0.2, seed=0)[1]) != elements(random_split(100, 0.2, seed=1)[1])


def test_a_read_only_mapped_text_is_used_without_a_copy_and_gives_the_same_batches(kind, tmp_path):
    ids = np.arange(200, dtype=np.int16)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.int16, "r")
    text = to_device_if_fits(mapped, torch.device("cpu"))
    assert text.data_ptr() == mapped.ctypes.data
    torch.testing.assert_close(epoch_of(make(kind, text, 5, 2)), epoch_of(make(kind, torch.arange(200), 5, 2)))


@pytest.mark.parametrize(("kind", "shortest"), [("windows", 6), ("chunks", 6), ("stream", 4)])
def test_a_short_text_is_a_data_error(kind, shortest):
    with pytest.raises(DataError, match=f"the training part has {shortest - 1} characters"):
        make(kind, torch.arange(shortest - 1), 5, 3)
    assert len(make(kind, torch.arange(shortest), 5, 3)) == 1


def test_batches_are_long_whatever_the_type_of_the_ids(kind):
    chars, targets = make(kind, torch.arange(200, dtype=torch.uint8), 5, 2).batch(0, 0)
    assert chars.dtype == targets.dtype == torch.long
