"""What the tests of the queries stage and of the preview share."""

import json

import pytest

from finegrade.config import Config
from finegrade.config.toml import parse_config
from helpers.corpus import write_documents
from helpers.fake_llm import FakeLLM


def asked_for(body) -> str:
    return body["messages"][-1]["content"].removeprefix("passage: ")


def answer(body):
    """Searches with words of the passage; of every fourth passage rubbish."""
    words = asked_for(body).split()
    if sum(map(ord, words[-1])) % 4 == 0:
        return FakeLLM.reply("Sure!")
    queries = {"keywords": words[8:12], "question": words[3:11], "symptom": ["unheard", "of", "xyzzy"]}
    return FakeLLM.reply(json.dumps({style: " ".join(told) for style, told in queries.items()}))


@pytest.fixture
def config(fake_llm, tmp_path, tiny_encoder, no_retries):
    fake_llm.answer = answer
    write_documents(tmp_path / "docs", 30)

    def config(chunks=24, **source) -> Config:
        return parse_config(
            {
                "source": {
                    "kind": "documents", "path": str(tmp_path / "docs"), "chunk_tokens": 80, "language": "any"
                } | source,
                "llm": {"base_url": fake_llm.base_url},
                "queries": {"chunks": chunks},
                "training": {"backbone": str(tiny_encoder)},
            },
            "test",
        )  # fmt: skip

    return config
