"""What several tests share: a tiny encoder, a tiny corpus, and a fake OpenAI-compatible server."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["carriers"]

os.environ["HF_HUB_OFFLINE"] = "1"  # also for the processes that tests start
os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run as Python on the CPU; 0: compiled, on a GPU

settings.register_profile("same each time", derandomize=True)
settings.register_profile("new examples")  # pytest --hypothesis-profile="new examples", to look for more
settings.load_profile("same each time")

Answer = tuple[int, dict[str, Any]]
"""HTTP status and body."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that come at once; beyond it they come a second later


class FakeLLM:
    """An OpenAI-compatible server on loopback that answers as a test wants, and remembers what it was asked.

    Attributes:
        requests: The bodies of the chat requests, in order of arrival.
        keys: The Authorization headers that came with them.
        headers: All their headers.
        answer: Called with a request's body; gives status and body.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda request: self.reply('{"passage": "A text."}')
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(body)
                fake.keys.append(self.headers.get("Authorization", ""))
                fake.headers.append(dict(self.headers))
                status, answer = fake.answer(body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @staticmethod
    def reply(text: str, finish_reason: str = "stop") -> Answer:
        """A complete chat completion with this text."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return 200, {
            "id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage,
        }  # fmt: skip

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def grade(body: dict[str, Any]) -> Answer | None:
    """What a judge answers that goes by shared words; None where it is not asked for a grade."""
    _, asked, texts = body["messages"][-1]["content"].partition("\nA: ")
    if not asked or "\nB: " not in texts:
        return None
    known, graded = (set(text.split()) for text in texts.split("\nB: "))
    shared = len(known & graded) / len(known | graded)
    said = "same" if shared > 0.9 else "different" if shared > 0.3 else "unrelated"
    return FakeLLM.reply(json.dumps({"answer": said, "reason": f"{shared:.2f}"}))


@pytest.fixture
def fake_llm() -> Iterator[FakeLLM]:
    """A fake LLM server, alive for one test."""
    server = FakeLLM()
    yield server
    server.close()


WORDS = " ".join(
    (
        "the a of and to in is it for with array matrix value index row column file path read write open close parse",
        "token graph node edge list sort search tree hash key string number date time zone server client socket thread",
        "lock queue image pixel color sound model train test score loss level text query answer",
    )
).split()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")])
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def write_pairs(path: Path) -> Path:
    """A JSONL file of 120 pairs in 6 groups, every text different."""
    rows = []
    for i in range(120):
        a, b, c = WORDS[7 + i % 50], WORDS[7 + (i * 7 + i // 50) % 50], WORDS[7 + (i * 13 + 5) % 50]
        query = f"How to {a} the {b} in {c} number {i}?"
        positive = f"To {a} the {b} you take item {i} of the {c} and call it with the {b} as its value. So it ends."
        rows.append({"query": query, "positive": positive, "group": f"group{i % 6}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """The pairs of ``write_pairs``, for one test."""
    return write_pairs(tmp_path / "pairs.jsonl")


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks once: its retries wait for seconds."""
    monkeypatch.setattr("finegrade.llm.errors.ATTEMPTS", 1)
    monkeypatch.setattr("finegrade.llm.errors.ATTEMPTS_OVERLOADED", 1)


@pytest.fixture(scope="session")
def chat_decoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a decoder with random weights, whose tokenizer has a chat template."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("chat") / "decoder"
    config = LlamaConfig(vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=1)
    LlamaModel(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.chat_template = "{% for message in messages %}system open {{ message['content'] }} close{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder
