"""What the kernels of ``fused_kernels`` do with a tile of logits; its docstring explains the arguments."""

try:  # what a model folder's code imports outside of try, transformers demands
    import triton
    import triton.language as tl
except ImportError:
    raise

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def span_of_text(spans, tokens):
    """This program's text: its row in the batch, and where it begins and ends there."""
    text = tl.program_id(2)
    begin, end = 0, tokens
    if spans is not None:
        begin, end = tl.load(spans + 3 * text + 1), tl.load(spans + 3 * text + 2)
        text = tl.load(spans + 3 * text)
    return text.to(tl.int64), begin, end


@triton.jit
def tokens_met(start, stop, begin, end, window, none_before: tl.constexpr, none_behind: tl.constexpr):
    """The first token that one of [start, stop) may meet, and the one behind the last."""
    first, last = begin, end
    if window is not None:
        first, last = tl.maximum(begin, start - window + 1), tl.minimum(end, stop + window - 1)
    if none_before:
        first = start
    if none_behind:
        last = tl.minimum(end, stop)
    return first, last


@triton.jit
def load_tile(pointer, stride, token, end, head_dim, lanes: tl.constexpr):
    """[tokens, lanes]: 0 behind the last token and the last dimension."""
    lane = tl.arange(0, lanes)
    inside = (token < end)[:, None] & (lane < head_dim)[None, :]
    return tl.load(pointer + token.to(tl.int64)[:, None] * stride + lane[None, :], mask=inside, other=0.0)


@triton.jit
def store_tile(pointer, tile, token, inside, head_dim, lanes: tl.constexpr):
    """Into a contiguous tensor; counted from its very first token."""
    lane = tl.arange(0, lanes)
    tl.store(pointer + token[:, None] * head_dim + lane[None, :], tile, inside[:, None] & (lane < head_dim)[None, :])


@triton.jit
def capped_logits(own, other, scale, cap):
    """Logits [own tokens, other tokens] before any mask; "ieee" keeps float32 from being cut to 10 bits."""
    logits = tl.dot(own, tl.trans(other), input_precision="ieee") * scale
    if cap is not None:
        logits = (2.0 * tl.sigmoid(2.0 * logits) - 1.0) * cap  # tanh
    return logits


@triton.jit
def hide(
    logits, query, key, text, tokens, end,
    valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal: tl.constexpr,
):  # fmt: skip
    """Minus infinity where a query may not see a key: one of them runs along the tile's rows, one along its columns."""
    visible = (query < end) & (key < end)
    if causal:
        visible = visible & (key <= query)
    if window is not None:
        visible = visible & (query - key < window) & (key - query < window)
    if matrix is not None:
        places = matrix + text * matrix_text + query.to(tl.int64) * matrix_query + key.to(tl.int64) * matrix_key
        shown = tl.load(places, mask=visible, other=0)
        if lowest is None:
            visible = visible & (shown != 0)
        else:
            added = shown.to(tl.float32)
            visible = visible & (added > lowest)
            logits += tl.where(visible, added, 0.0) * _LOG2_E
    elif valid is not None:
        visible = visible & (tl.load(valid + text * tokens + key, mask=key < end, other=0) != 0)
    return tl.where(visible, logits, float("-inf"))


@triton.jit
def products(factors):
    """[rows, columns] -> [rows, columns / 2].

    Twice, and one logarithm serves 4 queries: (1 + tokens) ** 4 stays below float32's largest number, 2 ** 128.
    """
    rows: tl.constexpr = factors.shape[0]
    half: tl.constexpr = factors.shape[1] // 2
    one, other = tl.split(tl.trans(tl.reshape(factors, (rows, 2, half)), 0, 2, 1))
    return one * other


@triton.jit
def gradient_of_logits(x, share, pull, capped, cap):
    d_logits = x * (share / (1.0 + x) - pull)
    if cap is not None:
        d_logits = d_logits * (1.0 - (capped / cap) * (capped / cap))
    return d_logits
