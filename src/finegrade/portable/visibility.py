"""Which keys each query may see: valid ones, none behind it where causal, none outside a window, what a mask allows."""

import torch
from torch import Tensor

_PAIRS = 1 << 22
"""Queries times keys that are looked at together: megabytes."""


class Visibility:
    """The rule of one attention layer, handed out for some queries at a time.

    Args:
        mask: [batch, tokens] with 1 for valid tokens; or [batch or 1, 1, tokens, tokens], boolean (True: may see) or
            additive, where the dtype's lowest value hides and any other is added to the logits; or None.
        batch: Texts.
        tokens: Of each text, padding included.
        causal: Whether a query sees only itself and what is before it.
        window: A query sees only what is less than so many tokens away; None: everything.
        device: Where the answers shall be.

    Attributes:
        valid: [batch, tokens], True for tokens that are no padding; in a 4-D mask those that see themselves.
        hides: Whether anything is hidden from any query.

    Raises:
        ValueError: The mask has another shape.
    """

    def __init__(
        self, mask: Tensor | None, batch: int, tokens: int, causal: bool, window: int | None, device: torch.device
    ) -> None:
        self._tokens, self._causal, self._window = tokens, causal, window
        self._allowed: Tensor | None = None
        self._added: Tensor | None = None
        self.hides = causal or mask is not None or (window is not None and window < tokens)
        self._place = torch.arange(tokens, device=device)
        if mask is None:
            self.valid = torch.ones(batch, tokens, dtype=torch.bool, device=device)
        elif mask.dim() == 2:
            self.valid = mask.bool()
        elif mask.dim() == 4 and mask.shape[1] == 1:
            self._allowed = mask[:, 0, :, :tokens]
            if mask.dtype != torch.bool:
                self._added = self._allowed
                self._allowed = self._added > torch.finfo(mask.dtype).min / 2
            self.valid = torch.diagonal(self._allowed, dim1=1, dim2=2).expand(batch, tokens)
        else:
            wanted = f"[{batch}, {tokens}] or [{batch}, 1, {tokens}, {tokens}]"
            raise ValueError(f"attention_mask has {mask.dim()} dimensions, {list(mask.shape)}; wanted {wanted}")
        self._padded = mask is not None and mask.dim() == 2

    def keys(self, start: int, stop: int) -> tuple[int, int]:
        """The first key that a query of [start, stop) may see, and the one behind the last."""
        first, last = 0, stop if self._causal else self._tokens
        if self._window is not None:
            first = max(0, start - self._window + 1)
            last = min(last, stop + self._window - 1)
        return first, last

    def rows(self, start: int, stop: int, texts: slice = slice(None)) -> Tensor:
        """[texts or 1, queries, keys], True where a query of [start, stop) may see a key of ``keys(start, stop)``."""
        first, last = self.keys(start, stop)
        query, key = self._place[start:stop, None], self._place[None, first:last]
        visible = torch.ones(1, stop - start, last - first, dtype=torch.bool, device=self._place.device)
        if self._causal:
            visible = visible & (key <= query)
        if self._window is not None:
            visible = visible & ((query - key).abs() < self._window)
        if self._padded:
            valid = self.valid[texts]
            visible = visible & valid[:, None, first:last] & valid[:, start:stop, None]
        if self._allowed is not None:
            visible = visible & self._of(self._allowed, texts)[:, start:stop, first:last]
        return visible

    def counts(self) -> tuple[Tensor, Tensor]:
        """K_j, how many keys query j may see, 0 for padding; |J(i)|, how many valid queries may see key i.

        Both [batch, tokens], float32.
        """
        batch, tokens = self.valid.shape
        if torch.compiler.is_exporting():  # a loop would freeze the length
            visible = self._heard_rows(0, tokens)
            return visible.sum(2).float(), visible.sum(1).float()
        keys_seen = torch.zeros(batch, tokens, device=self.valid.device)
        heard = torch.zeros_like(keys_seen)
        at_once = max(1, _PAIRS // (batch * tokens))
        for start in range(0, tokens, at_once):
            stop = min(start + at_once, tokens)
            visible = self._heard_rows(start, stop)
            keys_seen[:, start:stop] = visible.sum(2)
            heard[:, slice(*self.keys(start, stop))] += visible.sum(1)
        return keys_seen, heard

    def _heard_rows(self, start: int, stop: int) -> Tensor:
        """As ``rows``, of valid queries only: [batch, queries, keys]."""
        return self.rows(start, stop) & self.valid[:, start:stop, None]

    def added(self, start: int, stop: int, texts: slice = slice(None)) -> Tensor | None:
        """[texts or 1, queries, keys], what an additive mask adds to visible logits; None where there is none."""
        if self._added is None:
            return None
        first, last = self.keys(start, stop)
        return self._of(self._added, texts)[:, start:stop, first:last]

    @staticmethod
    def _of(mask: Tensor, texts: slice) -> Tensor:
        return mask if mask.shape[0] == 1 else mask[texts]
