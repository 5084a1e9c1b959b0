"""Counts along a row are those of every pair of its tokens."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.models.portable.visibility import Visibility

TOKENS = 9


def rule(**options: Any) -> Visibility:
    given_ = {"mask": None, "batch": 1, "tokens": TOKENS, "causal": False, "window": None, **options}
    return Visibility(**given_, device=torch.device("cpu"))


def assert_counts(visibility: Visibility) -> None:
    pairs = visibility.rows(0, TOKENS) & visibility.valid[:, :, None]
    keys_seen, heard = visibility.counts()
    assert torch.equal(keys_seen, pairs.sum(2).float())
    assert torch.equal(heard, pairs.sum(1).float())


windows = st.none() | st.integers(1, TOKENS + 1)


@settings(max_examples=50, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS), causal=st.booleans(), window=windows)
def test_padded_rows(mask: list[bool], causal: bool, window: int | None) -> None:
    visibility = rule(mask=torch.tensor([mask]), causal=causal, window=window)
    assert_counts(visibility)
    assert visibility.sizes().tolist() == [[sum(mask)]]


@settings(max_examples=50, deadline=None)
@given(inner=st.sets(st.integers(1, TOKENS - 1)), causal=st.booleans(), window=windows)
def test_rows_of_several_texts(inner: set[int], causal: bool, window: int | None) -> None:
    ends = [0, *sorted(inner), TOKENS]
    visibility = rule(causal=causal, window=window, cu_seqlens=torch.tensor(ends, dtype=torch.int32))
    assert_counts(visibility)
    lengths = torch.tensor(ends).diff()
    assert torch.equal(visibility.sizes()[0], lengths.repeat_interleave(lengths).float())


@pytest.mark.parametrize("pairs", [1, 1000])
def test_masks_of_their_own_for_each_query(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finegrade.models.portable.visibility._PAIRS", {"cpu": pairs})
    mask = torch.rand(2, 1, TOKENS, TOKENS, generator=torch.Generator().manual_seed(0)) < 0.5
    assert_counts(rule(mask=mask, batch=2))
    assert_counts(rule(mask=torch.zeros(mask.shape).masked_fill(~mask, -torch.inf), batch=2, causal=True, window=4))
