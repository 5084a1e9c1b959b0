"""Received attention is what docs/method.md says: the definition in loops against the function."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finegrade.models.portable import blockwise
from finegrade.models.portable.received_attention import Form, received_attention
from helpers.attention_definition import paper_sum, probabilities, received, rule, smoothed
from helpers.triton_interpreter import INTERPRETED, by_triton, prepare_triton

HEADS, DIM = 4, 8
MANY_BLOCKS = 60


@pytest.fixture(
    params=["reference", "blockwise", "many blocks", pytest.param("triton", marks=pytest.mark.slow)],
    autouse=True,
    scope="module",
)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is of every backend; "many blocks" cuts even the smallest text."""
    function: Any = partial(received_attention, backend=request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many blocks":
            function = partial(received_attention, backend="blockwise")
            patch.setitem(blockwise.ELEMENTS, "cpu", MANY_BLOCKS)
        if request.param == "triton":
            prepare_triton(patch)
            function = by_triton
        patch.setitem(globals(), "received_attention", function)
        yield request.param


PADDED = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]])


def draw(batch: int, tokens: int, kv_heads: int = HEADS, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(batch, HEADS, tokens, DIM, generator=generator)
    return query, torch.randn(batch, kv_heads, tokens, DIM, generator=generator)


def by_definition(
    query: Tensor, key: Tensor, mask: Tensor, causal: bool = False, window: int | None = None, **options: Any
) -> Tensor:
    """The definition for a batch with a 2-D mask."""
    options.setdefault("scale", query.shape[-1] ** -0.5)
    forms = {"received": received, "paper": paper_sum, "smoothed": partial(smoothed, prior=2.0)}
    weigh = forms[options.pop("form", "received")]
    rows = []
    for q, k, valid in zip(query.double().tolist(), key.double().tolist(), mask.bool().tolist(), strict=True):
        visible = rule(valid, causal, window)
        rows.append(weigh(probabilities(q, k, visible, **options), visible, valid))
    return torch.tensor(rows, dtype=torch.float64)


def as_4d(mask: Tensor, causal: bool, window: int | None = None) -> Tensor:
    """[batch, 1, tokens, tokens], as transformers makes it: the rows of padding queries still see valid keys."""
    tokens = mask.shape[1]
    i = torch.arange(tokens)
    see = torch.ones(tokens, tokens, dtype=torch.bool)
    if causal:
        see = see & (i[None] <= i[:, None])
    if window is not None:
        see = see & ((i[:, None] - i[None]).abs() < window)
    return see[None, None] & mask.bool()[:, None, None, :]


def additive(mask: Tensor, low: float = torch.finfo(torch.float32).min) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, low)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_no_mask(causal: bool, kv_heads: int) -> None:
    query, key = draw(2, 7, kv_heads)
    assert_same(received_attention(query, key, causal=causal), by_definition(query, key, torch.ones(2, 7), causal))


@pytest.mark.parametrize("causal", [False, True])
def test_padding_on_either_side_and_everywhere(causal: bool) -> None:
    query, key = draw(4, 7, 2)
    found = received_attention(query, key, attention_mask=PADDED, causal=causal)
    assert_same(found, by_definition(query, key, PADDED, causal))
    assert (found[PADDED == 0] == 0).all()
    assert (found[PADDED == 1] > 0).all()


@pytest.mark.parametrize("low", [None, torch.finfo(torch.float32).min, float("-inf")], ids=["boolean", "min", "inf"])
@pytest.mark.parametrize("causal", [False, True])
def test_4d_masks(causal: bool, low: float | None) -> None:
    query, key = draw(4, 7)
    mask = as_4d(PADDED, causal)
    found = received_attention(query, key, attention_mask=mask if low is None else additive(mask, low))
    assert_same(found, by_definition(query, key, PADDED, causal))


@pytest.mark.parametrize("low", [torch.finfo(torch.float32).min, float("-inf")], ids=["min", "inf"])
def test_2d_masks_may_be_additive_and_4d_masks_whole_numbers(low: float) -> None:
    query, key = draw(4, 7)
    wanted = by_definition(query, key, PADDED)
    assert_same(received_attention(query, key, attention_mask=additive(PADDED.bool(), low)), wanted)
    assert_same(received_attention(query, key, attention_mask=as_4d(PADDED, False).long()), wanted)


def test_a_text_without_tokens_gives_no_weights() -> None:
    query, key = draw(2, 0)
    assert received_attention(query, key).shape == (2, 0)


@pytest.mark.parametrize("causal", [False, True])
def test_a_sliding_window_comes_as_a_4d_mask(causal: bool) -> None:
    query, key = draw(4, 7)
    found = received_attention(query, key, attention_mask=as_4d(PADDED, causal, window=3))
    assert_same(found, by_definition(query, key, PADDED, causal, window=3))


def test_one_4d_mask_serves_the_whole_batch() -> None:
    query, key = draw(3, 6)
    mask = as_4d(torch.ones(1, 6), causal=True)
    assert_same(received_attention(query, key, attention_mask=mask), by_definition(query, key, torch.ones(3, 6), True))


def test_softcap() -> None:
    query, key = draw(4, 7)
    found = received_attention(query, 10 * key, attention_mask=PADDED, softcap=2.0)
    assert_same(found, by_definition(query, 10 * key, PADDED, softcap=2.0))


@pytest.mark.parametrize("causal", [False, True])
def test_sinks_take_probability_and_are_no_token(causal: bool) -> None:
    query, key = draw(4, 7, 2)
    sinks = torch.tensor([1.0, -2.0, 3.0, 0.0])
    found = received_attention(query, key, attention_mask=PADDED, causal=causal, sinks=sinks)
    assert_same(found, by_definition(query, key, PADDED, causal, sinks=sinks.tolist()))


def test_scale() -> None:
    query, key = draw(4, 7)
    found = received_attention(query, key, attention_mask=PADDED, scale=0.7)
    assert_same(found, by_definition(query, key, PADDED, scale=0.7))


def test_excluded_tokens_weigh_nothing_and_still_attend() -> None:
    query, key = draw(4, 7)
    excluded = torch.zeros(4, 7, dtype=torch.bool)
    excluded[:, 2:4] = True
    found = received_attention(query, key, attention_mask=PADDED, causal=True, excluded=excluded)
    wanted = by_definition(query, key, PADDED, causal=True)
    assert (found[excluded] == 0).all()
    assert_same(found, wanted.masked_fill(excluded, 0))
    as_int = received_attention(query, key, attention_mask=PADDED, causal=True, excluded=excluded.long())
    assert torch.equal(found, as_int)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fourth", [False, True], ids=["2-D", "4-D"])
@pytest.mark.parametrize("form", ["paper", "smoothed"])
def test_other_forms(form: Any, fourth: bool, causal: bool) -> None:
    query, key = draw(4, 7, 2)
    mask = as_4d(PADDED, causal) if fourth else PADDED
    found = received_attention(query, key, attention_mask=mask, causal=causal and not fourth, form=form)
    assert_same(found, by_definition(query, key, PADDED, causal, form=form))
    if form == "paper" and not causal:  # a constant factor in each text, which cancels
        ours = received_attention(query, key, attention_mask=mask)
        assert_same(found, (ours * PADDED.sum(1, keepdim=True)).double())


def test_the_smoothed_form_leaves_out_what_has_seen_only_itself_unless_it_is_alone() -> None:
    query, key = draw(1, 3)
    weigh = partial(received_attention, query, key, form="smoothed")
    for mask in ([[0, 1, 0]], [[1, 0, 0]]):
        assert (
            weigh(attention_mask=torch.tensor(mask), causal=True).gt(0).tolist() == torch.tensor(mask).bool().tolist()
        )
    assert weigh(causal=True).gt(0).tolist() == [[False, True, True]]
    assert weigh().gt(0).all()
    assert weigh(cu_seqlens=torch.tensor([0, 1, 3]), causal=True).gt(0).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    "shape", [(2, 5, 5), (5,), (3, 5), (2, 4), (3, 1, 5, 5), (2, 2, 5, 5), (2, 1, 4, 5), (2, 1, 5, 4), (2, 1, 9, 5)]
)
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    query, key = draw(2, 5)
    with pytest.raises(ValueError, match=r"attention_mask is \[.*; wanted \[2, 5\] or"):
        received_attention(query, key, attention_mask=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0"), ({"window": -1}, "window is -1"), ({"window": 2.5}, "window is 2.5"),
        ({"softcap": 0.0}, "softcap is 0.0"), ({"softcap": -1.0}, "softcap is -1.0"),
        ({"form": "smoothed", "prior": -7.0}, "prior is -7.0"), ({"prior": float("nan")}, "prior is nan"),
        ({"sinks": torch.zeros(3)}, r"sinks is \[3\]; wanted \[4\]"),
        ({"excluded": torch.zeros(1, 4)}, r"excluded is \[1, 4\]; wanted \[1, 5\]"),
        ({"cu_seqlens": [0, 5]}, "no row of whole numbers"), ({"cu_seqlens": torch.tensor([0.0, 5.0])}, "no row"),
        ({"cu_seqlens": torch.tensor([[0, 5]])}, "no row"), ({"cu_seqlens": torch.tensor([0, 4, 2, 5])}, "wanted 0"),
        ({"cu_seqlens": torch.tensor([0, -3, 5])}, "wanted 0"), ({"cu_seqlens": torch.tensor([0, 4])}, "wanted 0"),
        ({"cu_seqlens": torch.tensor([0])}, "wanted 0"),
        ({"attention_mask": torch.ones(1, 5)}, "so additive"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict, message: str) -> None:
    query, key = draw(1, 5)
    with pytest.raises(ValueError, match=message):
        received_attention(query, key, **options)


@pytest.mark.parametrize(
    "change",
    [lambda q, k: (q[0], k), lambda q, k: (q, k[:1]), lambda q, k: (q, k[..., :4]), lambda q, k: (q, k[:, :0]),
     lambda q, k: (q, k.double())],
    ids=["three dimensions", "other batch", "other head_dim", "no heads", "other dtype"],
)  # fmt: skip
def test_query_and_key_that_do_not_go_together_are_refused(change: Callable) -> None:
    with pytest.raises(ValueError, match=r"wanted|no multiple"):
        received_attention(*change(*draw(2, 5)))


def test_a_mask_for_all_queries_at_once_is_that_of_the_padding() -> None:
    query, key = draw(4, 7)
    by_row = received_attention(query, key, attention_mask=PADDED)
    found = received_attention(query, key, attention_mask=PADDED.bool()[:, None, None])
    torch.testing.assert_close(found, by_row)


def test_an_additive_mask_that_hides_nothing_changes_nothing() -> None:
    query, key = draw(2, 5)
    found = received_attention(query, key, attention_mask=torch.zeros(2, 5))
    torch.testing.assert_close(found, received_attention(query, key))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["received", "smoothed", "paper"])
def test_what_a_kernel_leaves_in_padding_changes_nothing(value: float, form: Form) -> None:
    query, key = draw(4, 7)
    clean = received_attention(query, key, attention_mask=PADDED, form=form)
    for tensor in (query, key):
        tensor.masked_fill_(PADDED[:, None, :, None] == 0, value)
    torch.testing.assert_close(received_attention(query, key, attention_mask=PADDED, form=form), clean)


def test_a_state_without_context_counts_where_no_other_has_any() -> None:
    query, key = draw(1, 4)
    assert (received_attention(query, key, window=1, form="smoothed") > 0).all()
    first = received_attention(query, key, causal=True, form="smoothed")[0, 0]
    assert first == 0


@pytest.mark.slow
def test_long_texts_do_not_overflow_in_the_paper_s_form(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend != "blockwise":
        pytest.skip("too long a text for it")
    monkeypatch.setitem(blockwise.ELEMENTS, "cpu", 1 << 24)
    query, key = (torch.zeros(1, 8, 70_000, 1) for _ in range(2))
    found = received_attention(query, key, causal=True, window=4, form="paper")
    assert found.isfinite().all()


def test_half_precision_inputs_give_float32_weights() -> None:
    query, key = (x.bfloat16() for x in draw(4, 7))
    found = received_attention(query, key, attention_mask=PADDED)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_definition(query, key, PADDED), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"softcap": 2.0}, {"sinks": (1.0, -2.0, 3.0, 0.0)}, {"form": "paper"}, {"form": "smoothed"}],
    ids=str,
)
def test_gradients_are_those_of_the_definition(options: dict[str, Any], causal: bool) -> None:
    """Central differences of the definition in float64 against autograd."""
    mask = torch.tensor([[0, 1, 1, 1, 0]])
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, n, 5, 3, generator=generator, dtype=torch.float64) for n in (4, 2))
    direction = torch.randn(1, 5, generator=generator, dtype=torch.float64)
    tensors = {name: torch.tensor(value) if name == "sinks" else value for name, value in options.items()}
    inputs = [query.float().requires_grad_(), key.float().requires_grad_()]
    (received_attention(*inputs, attention_mask=mask, causal=causal, **tensors) * direction).sum().backward()
    for which, (values, given_) in enumerate(zip((query, key), inputs, strict=True)):
        wanted = torch.zeros_like(values)
        for place in range(values.numel()):
            ends = []
            for shift in (1e-5, -1e-5):
                moved = [query.clone(), key.clone()]
                moved[which].view(-1)[place] += shift
                ends.append((by_definition(*moved, mask, causal, **options) * direction).sum().item())
            wanted.view(-1)[place] = (ends[0] - ends[1]) / 2e-5
        assert given_.grad is not None
        torch.testing.assert_close(given_.grad.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fourth", [False, True], ids=["2-D", "4-D"])
def test_gradients_stay_finite_where_nothing_is_seen_and_at_extreme_logits(fourth: bool) -> None:
    query, key = draw(4, 7)
    inputs = [(300 * query).requires_grad_(), key.requires_grad_()]
    mask = additive(as_4d(PADDED, True), float("-inf")) if fourth else PADDED
    found = received_attention(*inputs, attention_mask=mask, causal=True)
    found.sum().backward()
    assert found.isfinite().all()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)
    assert all((x.grad[3] == 0).all() for x in inputs)  # the row of padding


masks = st.lists(st.booleans(), min_size=1, max_size=6)
seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=25, deadline=None)
@given(mask=masks, causal=st.booleans(), kv_heads=st.sampled_from([1, 2, 4]), seed=seeds)
def test_any_mask_agrees_with_the_definition(mask: list[bool], causal: bool, kv_heads: int, seed: int) -> None:
    query, key = draw(1, len(mask), kv_heads, seed)
    valid = torch.tensor([mask])
    found = received_attention(query, key, attention_mask=valid, causal=causal)
    assert_same(found, by_definition(query, key, valid, causal))
    assert_same(received_attention(query, key, attention_mask=as_4d(valid, causal)), found.double())


@settings(max_examples=10, deadline=None)
@given(left=st.integers(0, 4), right=st.integers(0, 4), tokens=st.integers(1, 6), causal=st.booleans(), seed=seeds)
def test_padding_changes_nothing(left: int, right: int, tokens: int, causal: bool, seed: int) -> None:
    whole_query, whole_key = draw(1, left + tokens + right, 2, seed)
    mask = torch.zeros(1, left + tokens + right, dtype=torch.long)
    mask[:, left : left + tokens] = 1
    part = slice(left, left + tokens)
    bare = received_attention(whole_query[:, :, part], whole_key[:, :, part], causal=causal)
    padded = received_attention(whole_query, whole_key, attention_mask=mask, causal=causal)
    torch.testing.assert_close(padded[:, part], bare)
    assert padded[mask == 0].abs().sum() == 0


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(4)), causal=st.booleans(), seed=seeds)
def test_rows_do_not_see_each_other(order: list[int], causal: bool, seed: int) -> None:
    query, key = draw(4, 7, 2, seed)
    found = received_attention(query, key, attention_mask=PADDED, causal=causal)
    moved = received_attention(query[order], key[order], attention_mask=PADDED[order], causal=causal)
    torch.testing.assert_close(moved, found[order])


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)), seed=seeds)
def test_bidirectional_weights_follow_their_tokens(order: list[int], seed: int) -> None:
    query, key = draw(2, 6, 2, seed)
    moved = received_attention(query[:, :, order], key[:, :, order])
    torch.testing.assert_close(moved, received_attention(query, key)[:, order])


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.1, 10), causal=st.booleans(), seed=seeds)
def test_only_the_product_of_query_key_and_scale_counts(factor: float, causal: bool, seed: int) -> None:
    query, key = draw(2, 6, 2, seed)
    scaled = received_attention(query * factor, key, causal=causal, scale=0.3 / factor)
    torch.testing.assert_close(scaled, received_attention(query, key, causal=causal, scale=0.3), rtol=1e-4, atol=1e-5)


def test_equal_attention_gives_equal_weights_also_when_causal() -> None:
    """log 2 a head, whatever K is: what the mean over J(i) is for."""
    nothing = torch.zeros(1, HEADS, 9, DIM)
    for causal in (False, True):
        found = received_attention(nothing, nothing, causal=causal)
        torch.testing.assert_close(found, torch.full((1, 9), HEADS * torch.log(torch.tensor(2.0)).item()))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_window_is_the_definitions(window: int, causal: bool) -> None:
    query, key = draw(4, 7, 2)
    found = received_attention(query, key, attention_mask=PADDED, causal=causal, window=window)
    assert_same(found, by_definition(query, key, PADDED, causal, window=window))


@pytest.mark.parametrize("causal", [False, True])
def test_flattened_texts_do_not_see_each_other(causal: bool) -> None:
    query, key = draw(1, 9, 2)
    ends = torch.tensor([0, 4, 5, 9], dtype=torch.int32)
    found = received_attention(query, key, cu_seqlens=ends, causal=causal, window=3)
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        text = slice(begin, end)
        alone = received_attention(query[:, :, text], key[:, :, text], causal=causal, window=3)
        torch.testing.assert_close(found[:, text], alone)


def test_what_an_additive_mask_adds_is_added() -> None:
    query, key = draw(2, 7, 2)
    visible = as_4d(PADDED[:2], causal=True)
    slope = torch.arange(7.0)[None, :] - torch.arange(7.0)[:, None]  # as with ALiBi
    found = received_attention(query, key, attention_mask=torch.where(visible, slope, torch.finfo(torch.float32).min))
    longer_query = torch.cat(
        [query, torch.arange(7.0)[None, None, :, None].expand(2, HEADS, 7, 1), query.new_ones(2, HEADS, 7, 1)], -1
    )
    longer_key = torch.cat(
        [key, -key.new_ones(2, 2, 7, 1), torch.arange(7.0)[None, None, :, None].expand(2, 2, 7, 1)], -1
    )
    scale = DIM**-0.5
    longer_query[..., -2:] /= scale
    assert_same(found, by_definition(longer_query, longer_key, PADDED[:2], causal=True, scale=scale))


def test_a_mask_that_asks_for_gradients_of_sinks_gives_them() -> None:
    query, key = (x.double().float() for x in draw(4, 7, 2))
    sinks = torch.tensor([1.0, -2.0, 3.0, 0.0], requires_grad=True)
    found = received_attention(query, key, attention_mask=PADDED, causal=True, sinks=sinks)
    direction = torch.linspace(-1, 1, 28).view(4, 7)
    (found * direction).sum().backward()
    assert sinks.grad is not None
    for head in range(HEADS):
        ends = []
        for shift in (1e-5, -1e-5):
            moved = sinks.detach().double()
            moved[head] += shift
            ends.append((by_definition(query, key, PADDED, True, sinks=moved.tolist()) * direction).sum())
        torch.testing.assert_close(sinks.grad[head].double(), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-5)


def test_detached_weights_are_constants() -> None:
    query, key = (x.requires_grad_() for x in draw(2, 7))
    assert received_attention(query, key).requires_grad
    assert not received_attention(query, key, detach=True).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 63, 64, 100, 513, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_parity_with_float64(tokens: int, dtype: torch.dtype, causal: bool, backend: str) -> None:
    if tokens > 100 and backend == "many blocks":
        pytest.skip("blocks of a query each take minutes here, and shorter texts have shown them")
    if tokens > 513 and backend == "triton" and INTERPRETED:
        pytest.skip("interpreted kernels take minutes here, and shorter texts have shown them")
    query, key = (x.to(dtype) for x in draw(2, tokens, 2))
    mask = torch.ones(2, tokens, dtype=torch.bool)
    mask[1, : tokens // 3] = 0
    exact = [x.double().requires_grad_() for x in (query, key)]
    inputs = [x.clone().requires_grad_() for x in (query, key)]
    direction = torch.linspace(-1, 1, 2 * tokens).view(2, tokens)
    wanted = in_float64(*exact, mask, causal)
    (wanted * direction).sum().backward()
    found = received_attention(*inputs, attention_mask=mask, causal=causal)
    (found * direction).sum().backward()
    value, gradient = (1e-5, 1e-4) if dtype == torch.float32 else (2e-2, 2e-2)
    assert (found - wanted).abs().max() <= value * wanted.abs().max()
    for one, other in zip(inputs, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        largest = other.grad.abs().max().clamp(min=1e-3)  # a single token has no gradient, but kernels have roundings
        assert (one.grad - other.grad).abs().max() <= gradient * largest


def in_float64(query: Tensor, key: Tensor, mask: Tensor, causal: bool) -> Tensor:
    """The definition with tensors, for texts that are too long for loops."""
    see = (mask[:, None, :] * mask[:, :, None]).bool()
    see = see.tril() if causal else see
    logits = query @ key.repeat_interleave(HEADS // key.shape[1], 1).transpose(-1, -2) * query.shape[-1] ** -0.5
    shares = torch.softmax(logits.masked_fill(~see[:, None], -1e300), -1) * see[:, None]
    logs = torch.log(1 + see.sum(-1)[:, None, :, None] * shares).sum((1, 2))
    return logs / see.sum(1).clamp(min=1) * mask


def test_a_backend_that_is_not_there_is_refused() -> None:
    query, key = draw(1, 3)
    with pytest.raises(ValueError, match="wanted one of auto, reference, blockwise, triton"):
        received_attention(query, key, backend="fast")
    with pytest.raises(ValueError, match="form is 'mean'; wanted one of received, smoothed, paper"):
        received_attention(query, key, form="mean")
    with pytest.raises(ValueError, match="no multiple"):
        received_attention(query, key[:, :3])
    with pytest.raises(ValueError, match=r"key is \[1, 4, 2, 8\]"):
        received_attention(query, key[:, :, :2])
    with pytest.raises(ValueError, match="wanted 0, the ends of the texts, and 3 at last"):
        received_attention(query, key, cu_seqlens=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="cu_seqlens is for one row"):
        received_attention(query, key, attention_mask=torch.ones(1, 3).bool(), cu_seqlens=torch.tensor([0, 3]))
