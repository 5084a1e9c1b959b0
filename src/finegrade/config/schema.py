"""finegrade.toml: one section a stage, each value checked, with the sane default beside it."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from finegrade.config.base import Section
from finegrade.config.synthesis import DrawsConfig, Mode, SynthesisConfig, TasksConfig
from finegrade.config.verification import VerificationConfig

CHUNK_TOKENS = 150

_ENOUGH_PARAMETERS = 7  # billions
_OWN_PARAMETERS = frozenset((
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "response_format", "stream", "n",
))  # fmt: skip

_PATH_HOLDS = {
    "documents": "a folder or file of documents (or dataset, a data set on the hub)",
    "beir": "a folder with corpus.jsonl, queries.jsonl and qrels/",
    "pairs": 'a JSONL file with "query" and "positive" in each row',
}


class SourceConfig(Section):
    """Where queries and the texts that answer them come from, and how they are split."""

    kind: Literal["documents", "beir", "pairs", "python-docs", "tasks"] = "pairs"
    """documents: files without queries, the LLM writes them. beir: a BEIR folder. pairs: queries with their answers in
    JSONL. python-docs: docstrings on this machine. tasks: nothing but the LLM, which thinks up tasks ([tasks]) and
    writes queries, answers and negatives for them."""
    path: Path | None = None
    """A folder or file of documents (.md .txt .html .pdf .jsonl .csv .parquet, or a data set that save_to_disk wrote);
    a BEIR folder; or a JSONL file of pairs: {"query", "positive"} and optionally "group" in each row."""
    dataset: str | None = None
    """In place of path (kind "documents"): the id of a data set on the Hugging Face hub."""
    split: str = "train"
    """Of a data set."""
    text_field: str | None = None
    """Column of a table or data set that holds the text. None: the first there is of text, content, body, ..."""
    title_field: str | None = None
    """Column that holds a title. None: title, heading or subject where there is one."""
    queries: Path | None = None
    """Your own queries, JSONL: {"query"}, with "path" (a document) or "positive" (a text) where you know the answer.
    Labelled ones test, and train where their document is not held out; the others only test."""
    chunk_tokens: int = Field(CHUNK_TOKENS, ge=32, le=2048)
    """Tokens at most in a chunk of a document."""
    max_chunks: int = Field(4_000, ge=16)
    """At most this many chunks, drawn with the seed: they are searched, mined and asked about."""
    language: str = "detect"
    """The run stops where a model does not speak the language of the texts; "any": it goes on."""
    packages: tuple[str, ...] = ()
    """Installed packages to read besides the standard library (kind "python-docs"). Empty: all of them."""
    test_groups: tuple[str, ...] = ()
    """Groups held out for testing. Empty: groups are drawn until test_share of the pairs is held out."""
    test_share: float = Field(0.2, gt=0, lt=1)
    max_train: int = Field(20_000, ge=8)
    """At most this many queries are trained on (drawn with the seed)."""
    max_test: int = Field(2_000, ge=1)
    """At most this many queries are tested with; the corpus they search is never cut."""

    @model_validator(mode="after")
    def _needs_a_path(self) -> "SourceConfig":
        if self.path is None and self.dataset is None and self.kind in _PATH_HOLDS:
            raise ValueError(f'kind "{self.kind}" needs path, {_PATH_HOLDS[self.kind]}')
        if self.dataset is not None and self.kind != "documents":
            raise ValueError('dataset is for kind "documents"')
        if self.queries is not None and not self.has_documents:
            raise ValueError('queries is for kind "documents" or "beir": pairs and Python docs bring theirs')
        if self.path is not None and self.kind in ("python-docs", "tasks"):
            raise ValueError(f'kind "{self.kind}" reads no path')
        if self.path is not None and self.dataset is not None:
            raise ValueError("path and dataset are two sources: name one of them")
        return self

    @property
    def is_tasks(self) -> bool:
        """Whether the LLM writes queries and answers, too."""
        return self.kind == "tasks"

    @property
    def has_documents(self) -> bool:
        """Whether documents are read and queries written for them."""
        return self.kind in ("documents", "beir")


class LLMConfig(Section):
    """Which LLM writes. A remote one is used only when base_url names it."""

    model: str = Field("qwen2.5-coder-1.5b", min_length=1)
    """Catalogue name, .gguf path or Hugging Face id of the embedded LLM; with base_url, the server's model name."""
    base_url: str | None = None
    """An OpenAI-compatible server, e.g. "http://127.0.0.1:8000/v1". None: the embedded LLM, a local process."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key, e.g. "OPENAI_API_KEY". None: no key is sent. The
    key itself is never written anywhere."""
    concurrency: int = Field(1, ge=1, le=1000)
    """Requests under way at once. The embedded LLM gains nothing from more than 1."""
    batch: bool = False
    """Through the server's Batch API: cheaper, within a day; price_in and price_out are then the prices of batches."""
    timeout: float = Field(120.0, gt=0)
    """Seconds until a request counts as failed."""
    context: int = Field(4096, ge=512)
    """Context of the embedded LLM, in tokens."""
    thinking_tokens: int = Field(0, ge=0, le=200_000)
    """Tokens that a reasoning model may think before it answers, beside those of its reply. 0: it does not think."""
    parameters: dict[str, Any] = {}
    """Sent with each request as they are, and kept in the ledger with it, e.g. reasoning_effort = "low", or
    chat_template_kwargs = { enable_thinking = false }."""
    max_tokens: int | None = Field(None, ge=1)
    """Hard cap on what a remote LLM reads and writes over the run folder's life, in tokens."""
    max_cost: float | None = Field(None, gt=0)
    """Hard cap in money, in the currency of the prices. A remote LLM needs this cap or max_tokens."""
    price_in: float | None = Field(None, ge=0)
    """What a million tokens cost that a remote LLM reads."""
    price_out: float | None = Field(None, ge=0)
    """What a million tokens cost that it writes."""

    @property
    def host(self) -> str:
        """Of base_url; empty for the embedded LLM."""
        return urlsplit(self.base_url or "").hostname or ""

    @property
    def is_remote(self) -> bool:
        """Whether texts leave this machine."""
        return self.host not in ("", "127.0.0.1", "localhost", "::1")

    @property
    def is_small(self) -> bool:
        """Whether the model's name states fewer parameters than replies with several texts need."""
        size = re.search(r"(?<![a-z\d.])(\d+(?:\.\d+)?)([bm])(?![a-z\d])", self.model.lower())
        return size is not None and float(size[1]) < _ENOUGH_PARAMETERS * {"b": 1, "m": 1_000}[size[2]]

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "LLMConfig":
        if self.batch and self.base_url is None:
            raise ValueError("batch needs base_url: only a server has a Batch API")
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("max_cost needs price_in and price_out, what a million tokens cost")
        if self.is_remote and self.max_cost is None and self.max_tokens is None:
            raise ValueError("a remote LLM needs a cap: max_cost (with price_in and price_out) or max_tokens")
        if self.is_remote and "model" not in self.model_fields_set:
            raise ValueError("a remote LLM needs model, the name that the server knows it by")
        return self

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit(value or "http://127.0.0.1")
            more = parts.username or parts.password or parts.query or parts.fragment
            good = parts.scheme in ("http", "https") and parts.hostname and not more and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good or value == "":
            raise ValueError("must be a URL like http://127.0.0.1:8000/v1, without user, password or query")
        return value

    @field_validator("parameters")
    @classmethod
    def _are_others(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := _OWN_PARAMETERS & set(value):
            raise ValueError(f"{', '.join(sorted(taken))}: finegrade says that itself, by settings of its own")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("must be what JSON can say: no dates, no times, no nan") from None
        return value

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # never echo: it may be the key itself
            raise ValueError("must be the NAME of an environment variable, not the key")
        return value


Style = Literal["keywords", "question", "symptom"]


class QueriesConfig(Section):
    """How queries for documents are written."""

    chunks: int = Field(200, ge=8)
    """For how many chunks the LLM writes queries; test_share of them to test with."""
    styles: tuple[Style, ...] = Field(get_args(Style), min_length=1)
    """What kinds of query are written for each of them."""
    temperature: float = Field(0.7, ge=0, le=2)


PoolingName = Literal["anchor", "anchor-smoothed", "anchor-paper", "mean", "weightedmean", "lasttoken", "latent"]
AttentionName = Literal["native", "bidirectional"]


class TrainingConfig(Section):
    """How the model is trained."""

    backbone: str = Field("all-minilm-l6-v2", min_length=1)
    """Catalogue name, local folder or Hugging Face id."""
    pooling: PoolingName = "anchor"
    """How a text's token states become its vector (docs/method.md)."""
    attention: AttentionName = "native"
    """bidirectional: the tokens of a decoder see those behind them too."""
    lora: int | None = Field(None, ge=1)
    """Rank of adapters that are trained in place of the backbone's weights, and merged at the end. None: none."""
    schedule: str = "coarse-to-fine"
    """coarse-to-fine, reverse, shuffled, or fixed:K (level K only)."""
    controls: bool = True
    """Also train the control rows: in-batch + mean, in-batch + anchor, mined + mean."""
    steps: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    max_length: int = Field(128, ge=8)
    """Tokens of a text that the model reads, if its backbone can read as many."""
    scale: float = Field(20.0, gt=0)
    """Cosine similarities are multiplied by this before the softmax (1 / temperature)."""
    bf16: bool | None = None
    """bfloat16 autocast. None: on where the processor computes in it."""
    checkpoint_every: int = Field(10, ge=1)
    """Steps between checkpoints; a kill costs no more."""

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if not re.fullmatch(r"coarse-to-fine|reverse|shuffled|fixed:[1-9]\d*", value):
            raise ValueError("must be coarse-to-fine, reverse, shuffled or fixed:K with K a level")
        return value


class EvaluationConfig(Section):
    """How the rows are scored."""

    sts: bool = True
    """Also score STS-B test (English), so that forgetting shows."""
    sts_data: str = Field("sts-b", min_length=1)
    """Catalogue name, local folder with sts-test.csv (tab-separated; column 5 score, 6 and 7 sentences), or the Hugging
    Face id of a data set with columns sentence1, sentence2, score."""
    resamples: int = Field(1_000, ge=100)
    """Bootstrap resamples behind every interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    batch_size: int = Field(32, ge=1)


class Config(Section):
    """All settings of finegrade.toml."""

    seed: int = Field(0, ge=0, lt=2**32)
    source: SourceConfig
    llm: LLMConfig = LLMConfig()
    queries: QueriesConfig = QueriesConfig()
    tasks: TasksConfig = TasksConfig()
    draws: DrawsConfig = DrawsConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    verification: VerificationConfig = VerificationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _mode_and_engine_fit(self) -> "Config":
        synthesis, mode = self.synthesis, self.writing_mode
        if mode == "sibling" and self.source.is_tasks:
            raise ValueError('synthesis.mode "sibling" rewrites answers that there are: use "one-call" or "stepwise"')
        by_llm = [level for level, weights in synthesis.sources.items() if weights.get("llm")]
        if mode == "sibling" and any(int(level) < synthesis.levels for level in by_llm):
            raise ValueError('synthesis.sources: mode "sibling" writes the hardest level only; use "stepwise"')
        if synthesis.style_guard and self.source.is_tasks:
            raise ValueError("synthesis.style_guard is for pairs and documents: of tasks the LLM writes all texts")
        if self.synthesis.engine == "ray" and not self.llm.base_url:
            raise ValueError("engine ray needs llm.base_url: each worker would load an embedded LLM of its own")
        if self.synthesis.engine == "ray" and self.llm.batch:
            raise ValueError("engine ray asks directly: a batch is one file, which one process hands in (llm.batch)")
        return self

    @property
    def models(self) -> tuple[tuple[str, str], ...]:
        """Setting and name of each model that reads or writes texts."""
        rules, synthesis = self.verification, self.synthesis
        several = ("committee", "second_opinion", "second_opinion_written")
        return (
            ("training.backbone", self.training.backbone),
            ("verification.scorer", rules.scorer),
            *((f"verification.{setting}", name) for setting in several for name in getattr(rules, setting)),
            *([] if synthesis.miner == "bm25" else [("synthesis.miner_model", synthesis.miner_model)]),
            *([] if self.llm.base_url else [("llm.model", self.llm.model)]),
        )

    @property
    def writing_mode(self) -> Mode:
        """How the LLM is asked for negatives."""
        if self.synthesis.mode != "auto":
            return self.synthesis.mode
        if self.llm.base_url and not self.llm.is_small:
            return "one-call"
        return "stepwise" if self.source.is_tasks else "sibling"

    @property
    def resolved(self) -> "Config":
        """The same, with the mode that synthesis.mode "auto" stands for."""
        synthesis = self.synthesis.model_copy(update={"mode": self.writing_mode})
        return self.model_copy(update={"synthesis": synthesis})
