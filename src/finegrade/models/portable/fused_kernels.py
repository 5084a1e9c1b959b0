"""The Triton kernels of received attention: the n x n logits exist a tile at a time, on the GPU's chip only.

Each program owns the rows of its tiles, a block of one head's queries or keys, and walks along the columns that these
may meet. Logits are in units of log 2, because a GPU raises 2 to a power, not e. With

    shift_j = log2 sum_k 2^logit_jk - log2 K_j,    x_ji = 2^(logit_ji - shift_j) = K_j a_ji,    u = x / (1 + x),

and c_i the gradient of the sum of key i,

    received_i = sum_j log2(1 + x_ji),    d logit_ji = c_i u_ji - x_ji pull_j,    pull_j = sum_k c_k u_jk / K_j.

A query that is padding has K = 0, so its shift is infinite and its x 0.

What the kernels take:
    query, key: [batch, heads or kv_heads, tokens, head_dim], the last dimension contiguous; ``*_text``, ``*_head`` and
        ``*_token`` are strides.
    spans: [texts, 3], int32: each text's row in the batch, where it begins and ends there; None: texts fill their rows.
    valid: [batch, tokens], 0 for padding; None where there is none.
    matrix: [batch or 1, tokens, tokens], a mask of its own for each query; None where there is none.
    lowest: What an additive matrix must exceed to show a key; None: the matrix is boolean.
    scale, cap: logit = product * scale, or cap * tanh(product * scale) where cap is not None.
    window: A query sees what is less than so many tokens away; None: everything.
    rows, columns, lanes: Of a tile: tokens owned, tokens met, and head_dim rounded up to a power of two.
"""

try:  # what a model folder's code imports outside of try, transformers demands
    import triton
    import triton.language as tl
except ImportError:
    raise

if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3):
    raise ImportError(f"triton {triton.__version__} cannot compile these kernels; wanted 3.3 or newer")

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
    """The gradient of the logits, through the cap where there is one."""
    d_logits = x * (share / (1.0 + x) - pull)
    if cap is not None:
        d_logits = d_logits * (1.0 - (capped / cap) * (capped / cap))
    return d_logits


_LOWEST = tl.constexpr(-3.0e38)
"""Below every visible logit, and finite: the difference of two infinities is not a number."""


@triton.jit
def log_sums(
    query, key, sinks, spans, log_sum,
    query_text, query_head, query_token, key_text, key_head, key_token, tokens, head_dim, group: tl.constexpr,
    valid, matrix, matrix_text, matrix_query, matrix_key, lowest, scale, cap, window, causal: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """log_sum, the logarithm of the sum of powers over the keys and the sink: [batch, heads, tokens]."""
    text, begin, end = span_of_text(spans, tokens)
    head = tl.program_id(1).to(tl.int64)
    start = begin + tl.program_id(0) * rows
    if start >= end:
        return
    key += text * key_text + head // group * key_head
    own_token = start + tl.arange(0, rows)
    own = load_tile(query + text * query_text + head * query_head, query_token, own_token, end, head_dim, lanes)
    highest = tl.full([rows], _LOWEST, tl.float32)
    total = tl.zeros([rows], tl.float32)
    if sinks is not None:
        sink = tl.load(sinks + head)
        highest = tl.maximum(highest, sink)
        total += tl.exp2(sink - highest)
    first, last = tokens_met(start, start + rows, begin, end, window, False, causal)
    for column in range(first, last, columns):
        token = column + tl.arange(0, columns)
        logits = capped_logits(own, load_tile(key, key_token, token, end, head_dim, lanes), scale, cap)
        logits = hide(
            logits, own_token[:, None], token[None, :], text, tokens, end,
            valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal,
        )  # fmt: skip
        higher = tl.maximum(highest, tl.max(logits, 1))
        total = total * tl.exp2(highest - higher) + tl.sum(tl.exp2(logits - higher[:, None]), 1)
        highest = higher
    place = (text * tl.num_programs(1) + head) * tokens
    found = highest + tl.log2(tl.where(total > 0, total, 1.0))  # any number, where nothing is seen
    tl.store(log_sum + place + own_token, found, mask=own_token < end)


@triton.jit
def sums_of_logs(
    query, key, shift, spans, received,
    query_text, query_head, query_token, key_text, key_head, key_token, tokens, head_dim, group: tl.constexpr,
    valid, matrix, matrix_text, matrix_query, matrix_key, lowest, scale, cap, window, causal: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """received, in units of log 2: [batch, heads, tokens]."""
    text, begin, end = span_of_text(spans, tokens)
    head = tl.program_id(1).to(tl.int64)
    start = begin + tl.program_id(0) * rows
    if start >= end:
        return
    query += text * query_text + head * query_head
    place = (text * tl.num_programs(1) + head) * tokens
    own_token = start + tl.arange(0, rows)
    own = load_tile(key + text * key_text + head // group * key_head, key_token, own_token, end, head_dim, lanes)
    summed = tl.zeros([rows], tl.float32)
    first, last = tokens_met(start, start + rows, begin, end, window, causal, False)
    for column in range(first, last, columns):
        token = column + tl.arange(0, columns)
        logits = capped_logits(own, load_tile(query, query_token, token, end, head_dim, lanes), scale, cap)
        logits = hide(
            logits, token[None, :], own_token[:, None], text, tokens, end,
            valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal,
        )  # fmt: skip
        logits -= tl.load(shift + place + token, mask=token < end, other=float("inf"))[None, :]
        summed += tl.sum(tl.log2(products(products(1.0 + tl.exp2(logits)))), 1)
    tl.store(received + place + own_token, summed, mask=own_token < end)


@triton.jit
def query_gradients(
    query, key, shift, factor, wanted, spans, pull, d_query,
    query_text, query_head, query_token, key_text, key_head, key_token, tokens, head_dim, group: tl.constexpr,
    valid, matrix, matrix_text, matrix_query, matrix_key, lowest, scale, cap, window, causal: tl.constexpr, slope,
    rows: tl.constexpr, columns: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """pull [batch, heads, tokens] and d_query [batch, heads, tokens, head_dim], from wanted (c) [batch, tokens].

    Two walks: pull must be there before d logit is rounded, as its two terms nearly cancel where attention is sharp.
    """
    text, begin, end = span_of_text(spans, tokens)
    head = tl.program_id(1).to(tl.int64)
    start = begin + tl.program_id(0) * rows
    if start >= end:
        return
    key += text * key_text + head // group * key_head
    wanted += text * tokens
    place = (text * tl.num_programs(1) + head) * tokens
    own_token = start + tl.arange(0, rows)
    inside = own_token < end
    own = load_tile(query + text * query_text + head * query_head, query_token, own_token, end, head_dim, lanes)
    shifts = tl.load(shift + place + own_token, mask=inside, other=float("inf"))
    first, last = tokens_met(start, start + rows, begin, end, window, False, causal)
    pulled = tl.zeros([rows], tl.float32)
    for column in range(first, last, columns):
        token = column + tl.arange(0, columns)
        logits = capped_logits(own, load_tile(key, key_token, token, end, head_dim, lanes), scale, cap)
        logits = hide(
            logits, own_token[:, None], token[None, :], text, tokens, end,
            valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal,
        )  # fmt: skip
        x = tl.exp2(logits - shifts[:, None])
        share = tl.load(wanted + token, mask=token < end, other=0.0)
        pulled += tl.sum(share[None, :] * (x / (1.0 + x)), 1)
    pulled /= tl.maximum(tl.load(factor + text * tokens + own_token, mask=inside, other=1.0), 1.0)
    tl.store(pull + place + own_token, pulled, mask=inside)
    total = tl.zeros([rows, lanes], tl.float32)
    for column in range(first, last, columns):
        token = column + tl.arange(0, columns)
        other = load_tile(key, key_token, token, end, head_dim, lanes)
        capped = capped_logits(own, other, scale, cap)
        logits = hide(
            capped, own_token[:, None], token[None, :], text, tokens, end,
            valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal,
        )  # fmt: skip
        share = tl.load(wanted + token, mask=token < end, other=0.0)
        d_logits = gradient_of_logits(tl.exp2(logits - shifts[:, None]), share[None, :], pulled[:, None], capped, cap)
        total += tl.dot(d_logits.to(other.dtype), other, input_precision="ieee")
    store_tile(d_query, total * slope, place + own_token, inside, head_dim, lanes)


@triton.jit
def key_gradients(
    query, key, shift, wanted, pull, spans, d_key,
    query_text, query_head, query_token, key_text, key_head, key_token, tokens, head_dim, group: tl.constexpr,
    valid, matrix, matrix_text, matrix_query, matrix_key, lowest, scale, cap, window, causal: tl.constexpr, slope,
    rows: tl.constexpr, columns: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    """d_key [batch, kv_heads, tokens, head_dim]; a program walks through all heads of its group, so none race."""
    text, begin, end = span_of_text(spans, tokens)
    kv_head = tl.program_id(1).to(tl.int64)
    start = begin + tl.program_id(0) * rows
    if start >= end:
        return
    own_token = start + tl.arange(0, rows)
    inside = own_token < end
    own = load_tile(key + text * key_text + kv_head * key_head, key_token, own_token, end, head_dim, lanes)
    share = tl.load(wanted + text * tokens + own_token, mask=inside, other=0.0)
    first, last = tokens_met(start, start + rows, begin, end, window, causal, False)
    total = tl.zeros([rows, lanes], tl.float32)
    for member in range(group):
        head = kv_head * group + member
        place = (text * tl.num_programs(1) * group + head) * tokens
        of_head = query + text * query_text + head * query_head
        for column in range(first, last, columns):
            token = column + tl.arange(0, columns)
            other = load_tile(of_head, query_token, token, end, head_dim, lanes)
            capped = capped_logits(own, other, scale, cap)
            logits = hide(
                capped, token[None, :], own_token[:, None], text, tokens, end,
                valid, matrix, matrix_text, matrix_query, matrix_key, lowest, window, causal,
            )  # fmt: skip
            logits -= tl.load(shift + place + token, mask=token < end, other=float("inf"))[None, :]
            pulled = tl.load(pull + place + token, mask=token < end, other=0.0)
            d_logits = gradient_of_logits(tl.exp2(logits), share[:, None], pulled[None, :], capped, cap)
            total += tl.dot(d_logits.to(other.dtype), other, input_precision="ieee")
    place = (text * tl.num_programs(1) + kv_head) * tokens
    store_tile(d_key, total * slope, place + own_token, inside, head_dim, lanes)


INTERPRETED = not isinstance(log_sums, triton.JITFunction)
"""Whether the kernels run as Python on any device: TRITON_INTERPRET=1 was set before triton was imported."""
