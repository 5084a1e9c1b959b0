"""Which keys each query may see: valid ones, none behind it where causal, none outside a window, what a mask allows."""

import torch
from torch import Tensor
from torch.nn.functional import pad

_PAIRS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Queries times keys looked at together: what fits into a processor's cache, and enough to be worth a GPU's while."""


class Visibility:
    """The rule of one attention layer, handed out for some queries at a time.

    Args:
        mask: [batch, tokens], whole numbers or boolean with 1 for valid tokens, or floating, which is additive: 0 for
            them and the dtype's lowest value or minus infinity for padding; or [batch or 1, 1, tokens or 1, tokens or
            more], boolean (True: may see) or additive, where the lowest value hides and any other is added to the
            logits; or None.
        batch: Texts.
        tokens: Of each text, padding included.
        causal: Whether a query sees only itself and what is before it.
        window: A query sees only what is less than so many tokens away; None: everything.
        device: Where the answers shall be.
        cu_seqlens: [texts + 1], where the texts of one long row begin and end; None: a row is a text.

    Attributes:
        valid: [batch, tokens], True for tokens that are no padding; in a 4-D mask those that see themselves.
        hides: Whether anything is hidden from any query.
        padded: Whether the mask is 2-D.
        matrix: [batch or 1, tokens, tokens], what came as a 4-D mask; else None.
        lowest: What an additive matrix exceeds where a query may see a key; None where it is boolean.
        causal, window, borders: As above, the last for cu_seqlens.
    """

    def __init__(
        self, mask: Tensor | None, batch: int, tokens: int, causal: bool, window: int | None, device: torch.device,
        cu_seqlens: Tensor | None = None,
    ) -> None:  # fmt: skip
        self._tokens, self.causal, self.window = tokens, causal, window
        self.borders = None if cu_seqlens is None else cu_seqlens.to(device).long()
        self.matrix: Tensor | None = None
        self.lowest: float | None = None
        is_windowed = window is not None and window < tokens
        self.hides = causal or mask is not None or is_windowed or cu_seqlens is not None
        self._place = torch.arange(tokens, device=device)
        self._text = None if self.borders is None else torch.bucketize(self._place, self.borders[1:-1], right=True)
        if mask is None:
            self.valid = torch.ones(batch, tokens, dtype=torch.bool, device=device)
        elif mask.dim() == 2:
            self.valid = mask == 0 if mask.is_floating_point() else mask.bool()
        else:
            self.matrix = mask[:, 0, :, :tokens].expand(-1, tokens, -1)
            self.matrix = self.matrix if mask.is_floating_point() else self.matrix.bool()
            self.lowest = torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() else None
            self.valid = self._shown(torch.diagonal(self.matrix, dim1=1, dim2=2)).expand(batch, tokens)
        self.padded = mask is not None and mask.dim() == 2

    def keys(self, start: int, stop: int) -> tuple[int, int]:
        """The first key that a query of [start, stop) may see, and the one behind the last."""
        first, last = 0, stop if self.causal else self._tokens
        if self.window is not None:
            first = max(0, start - self.window + 1)
            last = min(last, stop + self.window - 1)
        return first, last

    def rows(self, start: int, stop: int, texts: slice = slice(None)) -> Tensor:
        """[texts or 1, queries, keys], True where a query of [start, stop) may see a key of ``keys(start, stop)``."""
        first, last = self.keys(start, stop)
        query, key = self._place[start:stop, None], self._place[None, first:last]
        visible = torch.ones(1, stop - start, last - first, dtype=torch.bool, device=self._place.device)
        if self.causal:
            visible = visible & (key <= query)
        if self.window is not None:
            visible = visible & ((query - key).abs() < self.window)
        if self.padded:
            valid = self.valid[texts]
            visible = visible & valid[:, None, first:last] & valid[:, start:stop, None]
        if self._text is not None:
            visible = visible & (self._text[start:stop, None] == self._text[None, first:last])
        if self.matrix is not None:
            visible = visible & self._shown(self._of(self.matrix, texts)[:, start:stop, first:last])
        return visible

    def counts(self) -> tuple[Tensor, Tensor]:
        """K_j, how many keys query j may see, 0 for padding; |J(i)|, how many valid queries may see key i.

        Both [batch, tokens], float32.
        """
        batch, tokens = self.valid.shape
        if torch.compiler.is_exporting():  # a loop would freeze the length
            visible = self._heard_rows(0, tokens)
            return visible.sum(2).float(), visible.sum(1).float()
        if self.matrix is None:
            return self._counts_without_matrix()
        keys_seen = torch.zeros(batch, tokens, device=self.valid.device)
        heard = torch.zeros_like(keys_seen)
        at_once = max(1, _PAIRS.get(self.valid.device.type, _PAIRS["cpu"]) // (batch * tokens))
        for start in range(0, tokens, at_once):
            stop = min(start + at_once, tokens)
            visible = self._heard_rows(start, stop)
            keys_seen[:, start:stop] = visible.sum(2, dtype=torch.int32)
            heard[:, slice(*self.keys(start, stop))] += visible.sum(1, dtype=torch.int32)
        return keys_seen, heard

    def _counts_without_matrix(self) -> tuple[Tensor, Tensor]:
        """Without a look at pairs: what a token may meet is one stretch of its text."""
        place, (first, last) = self._place, self._ends()
        if self.window is not None:
            first, last = torch.maximum(first, place - self.window + 1), torch.minimum(last, place + self.window)
        keys_seen = self._valid_between(first, place + 1 if self.causal else last)
        return keys_seen * self.valid, self._valid_between(place if self.causal else first, last) * self.valid

    def sizes(self) -> Tensor:
        """How many valid tokens a token's text has: [batch, tokens or 1], float32."""
        return self.valid.sum(1, keepdim=True).float() if self.borders is None else self._valid_between(*self._ends())

    def _valid_between(self, first: Tensor, last: Tensor) -> Tensor:
        """[tokens], [tokens] -> [batch, tokens]: valid tokens in each [first, last)."""
        before = pad(self.valid.cumsum(1), (1, 0))
        return (before[:, last] - before[:, first]).clamp(min=0).float()

    def _ends(self) -> tuple[Tensor, Tensor]:
        """[tokens], [tokens]: where the text of each token begins and ends."""
        if self.borders is None:
            return torch.zeros_like(self._place), torch.full_like(self._place, self._tokens)
        return self.borders[self._text], self.borders[1:][self._text]

    def _heard_rows(self, start: int, stop: int) -> Tensor:
        """As ``rows``, of valid queries only: [batch, queries, keys]."""
        return self.rows(start, stop) & self.valid[:, start:stop, None]

    def added(self, start: int, stop: int, texts: slice = slice(None)) -> Tensor | None:
        """[texts or 1, queries, keys], what an additive mask adds to visible logits; None where there is none."""
        if self.matrix is None or self.lowest is None:
            return None
        first, last = self.keys(start, stop)
        return self._of(self.matrix, texts)[:, start:stop, first:last]

    def _shown(self, part: Tensor) -> Tensor:
        return part if self.lowest is None else part > self.lowest

    @staticmethod
    def _of(mask: Tensor, texts: slice) -> Tensor:
        return mask if mask.shape[0] == 1 else mask[texts]
