"""Received attention a block of queries at a time: O(tokens x block) memory, forward and backward, on any device.

Per block: logits, softmax, 1 + K a, and one logarithm for the product over several queries, because

    sum_j log(1 + K_j a_j) = log prod_j (1 + K_j a_j),    with 1 + K a <= 1 + tokens.

The backward pass computes the probabilities again: with u = K a / (1 + K a) and c_i the gradient of the sum of key i,

    d logit_ji = c_i u_ji - a_ji sum_k c_k u_jk.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .visibility import Visibility

ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Logits that are worked on at once: what fits into a processor's cache; on a GPU, which starts slowly, half a gigabyte
with all that is made of them (of 2^19 to 2^28 tried on an H200 the best but for 2^26, which takes three times that)."""

_QUERIES_TOGETHER, _TOKENS = 8, (1 << 16) - 1
"""(1 + tokens) ** 8 stays below float32's largest number, 2 ** 128, up to so many tokens."""

_HIDDEN = torch.finfo(torch.float32).min / 2


def blockwise(
    query: Tensor, key: Tensor, visibility: Visibility, factor: Tensor, scale: float, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:  # fmt: skip
    """The sum over heads and queries of log(1 + K_j a): [batch, tokens], float32.

    Args:
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, tokens, head_dim].
        visibility: Which keys a query may see.
        factor: K_j, [batch, tokens], 0 where the query is padding.
        scale: Multiplies the logits.
        softcap: Logits become softcap * tanh(logits / softcap).
        sinks: [heads], logits that take probability and are no token.
    """
    found: Tensor = _Blockwise.apply(query, key, sinks, factor, visibility, scale, softcap)  # type: ignore[no-untyped-call]
    return found


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, sinks: Tensor | None, factor: Tensor, visibility: Visibility,
        scale: float, softcap: float | None,
    ) -> Tensor:  # fmt: skip
        work = _Work(query, key, sinks, factor, visibility, scale, softcap)
        summed = torch.zeros_like(factor)
        for block in work.blocks():
            shares, _ = work.shares(work.logits(block), block)
            summed[block.texts, block.keys] += _sum_of_logs(shares.mul_(block.factor).add_(1), work.queries_together)
        ctx.save_for_backward(query, key, sinks, factor)
        ctx.rest = visibility, scale, softcap
        return summed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, sinks, factor = ctx.saved_tensors
        work = _Work(query, key, sinks, factor, *ctx.rest)
        softcap = ctx.rest[-1]
        d_query, d_key = torch.zeros_like(query), torch.zeros(key.shape, dtype=torch.float32, device=key.device)
        d_sinks = torch.zeros(query.shape[1], device=query.device)
        for block in work.blocks():
            logits = work.logits(block)
            slope = None if softcap is None else 1 - (logits / softcap).square()
            shares, of_sinks = work.shares(logits, block)
            pulled = shares * block.factor
            pulled.div_(pulled + 1).mul_(gradient[block.texts, None, None, None, block.keys])
            pull = pulled.sum(-1, keepdim=True)
            if of_sinks is not None:
                d_sinks -= (of_sinks * pull).sum((0, 3, 4)).flatten()
            d_logits = pulled.sub_(shares.mul_(pull))
            if slope is not None:
                d_logits.mul_(slope)
            work.add_gradients(block, d_logits, d_query, d_key)
        of_sinks = None if sinks is None else d_sinks.to(sinks.dtype)
        return d_query, d_key.to(key.dtype), of_sinks, None, None, None, None


class _Block:
    """Some queries of some texts.

    Attributes:
        texts: Which texts.
        queries: Which of their queries.
        keys: The keys that one of these may see.
        bias: [texts or 1, 1, 1, queries, keys], added to the logits: lowest for what is hidden; None where nothing is.
        factor: K_j, [texts, 1, 1, queries, 1].
    """

    def __init__(self, texts: slice, start: int, stop: int, visibility: Visibility, factor: Tensor) -> None:
        self.texts, self.queries, self.keys = texts, slice(start, stop), slice(*visibility.keys(start, stop))
        self.factor = factor[texts, None, None, start:stop, None]
        self.bias: Tensor | None = None
        if visibility.hides:
            visible = visibility.rows(start, stop, texts)
            added = visibility.added(start, stop, texts)
            added = torch.zeros((), device=visible.device) if added is None else added.float()
            self.bias = torch.where(visible, added, _HIDDEN)[:, None, None]


class _Work:
    """What forward and backward share. Logits are [texts, kv_heads, heads of each, queries, keys]."""

    def __init__(
        self, query: Tensor, key: Tensor, sinks: Tensor | None, factor: Tensor, visibility: Visibility, scale: float,
        softcap: float | None,
    ) -> None:  # fmt: skip
        self.queries_together = _QUERIES_TOGETHER if query.shape[2] <= _TOKENS else 1
        self.groups = key.shape[1], query.shape[1] // key.shape[1]
        self._sinks = None if sinks is None else sinks.float().view(1, *self.groups, 1, 1)
        self._query, self._key = self.grouped(query), key
        self._factor, self._visibility, self._scale, self._softcap = factor, visibility, scale, softcap

    def grouped(self, by_head: Tensor) -> Tensor:
        """[texts, heads, ...] -> [texts, kv_heads, heads of each, ...]."""
        return by_head.view(by_head.shape[0], *self.groups, *by_head.shape[2:])

    def blocks(self) -> Iterator[_Block]:
        batch, kv_heads, group, tokens, _ = self._query.shape
        row = max(1, kv_heads * group * tokens)
        elements = ELEMENTS.get(self._query.device.type, ELEMENTS["cpu"])
        queries = max(1, min(tokens, elements // row))
        texts = max(1, elements // (row * queries))
        for text in range(0, batch, texts):
            for start in range(0, tokens, queries):
                which, stop = slice(text, min(batch, text + texts)), min(tokens, start + queries)
                yield _Block(which, start, stop, self._visibility, self._factor)

    def logits(self, block: _Block) -> Tensor:
        """float32, soft-capped, nothing hidden yet."""
        query = self._query[block.texts, :, :, block.queries].flatten(2, 3)
        with torch.autocast(query.device.type, enabled=False):
            logits = torch.matmul(query * self._scale, self._key[block.texts, :, block.keys].transpose(-1, -2)).float()
        logits = logits.view(-1, *self.groups, block.queries.stop - block.queries.start, logits.shape[-1])
        return logits if self._softcap is None else logits.div_(self._softcap).tanh_().mul_(self._softcap)

    def shares(self, logits: Tensor, block: _Block) -> tuple[Tensor, Tensor | None]:
        """Probabilities of the keys, and of the sinks; the logits are overwritten."""
        if block.bias is not None:
            logits.add_(block.bias)  # many times as fast as masked_fill_ on a CPU
        if self._sinks is None:
            return torch.softmax(logits, dim=-1), None
        column = self._sinks.expand(*logits.shape[:-1], 1)
        every = torch.softmax(torch.cat([logits, column], dim=-1), dim=-1)
        return every[..., :-1], every[..., -1:]

    def add_gradients(self, block: _Block, d_logits: Tensor, d_query: Tensor, d_key: Tensor) -> None:
        query = self._query[block.texts, :, :, block.queries]
        query_shape, query = query.shape, query.flatten(2, 3)
        key = self._key[block.texts, :, block.keys]
        with torch.autocast(query.device.type, enabled=False):
            d_logits = d_logits.flatten(2, 3).mul_(self._scale).to(query.dtype)
            by_query = torch.matmul(d_logits, key)
            by_key = torch.matmul(d_logits.transpose(-1, -2), query)
        self.grouped(d_query)[block.texts, :, :, block.queries] = by_query.view(query_shape)
        d_key[block.texts, :, block.keys] += by_key


def _sum_of_logs(factors: Tensor, at_once: int) -> Tensor:
    """[texts, kv_heads, heads of each, queries, keys] -> [texts, keys]; the factors may be overwritten."""
    factors = factors.flatten(1, 3)
    together = factors.shape[1] // at_once * at_once
    rest, factors = factors[:, together:], factors[:, :together]
    factors = factors.view(len(factors), at_once, together // at_once, factors.shape[-1])
    return factors.prod(1).log_().sum(1) + rest.log_().sum(1)
