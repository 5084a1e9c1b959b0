"""The other contestants of benchmarks/synthesis.py, as their documentation would have them used for this job.

Both send the same messages and the same JSON schema, with as many requests under way as finegrade, and read each reply
as JSON. Retries (6 and 10) and displays of progress are as they come. No cache is read: each job has its own folder.

distilabel: a pipeline of one `TextGeneration` task over `OpenAILLM`. A batch of `input_batch_size` is sent at once and
waited for as a whole, by each of the task's replicas; of 1, 2 and 4 replicas that share the requests under way, 4 were
the fastest. The schema goes through `extra_body`, which costs less than `structured_output`, a second library between
the task and the client.

bespokelabs-curator: a `curator.LLM` with a `response_format`, on the openai backend, `max_concurrent_requests` as said;
its limits on requests and tokens a minute are raised out of the way (left out, they would be 200 and 100,000).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from synthesis_job import MAX_TOKENS, RESPONSE_FORMAT, SEED, SYSTEM, TEMPERATURE, messages, question

REPLICAS = 4
NO_LIMIT = 1_000_000_000  # a minute

REQUIREMENTS = {
    "distilabel": ["distilabel[openai]==1.5.3", "requests>=2,<3"],  # it imports requests and does not say so
    "curator": ["bespokelabs-curator==0.1.31"],
}


def with_distilabel(base_url: str, numbers: range, concurrency: int) -> None:
    """One pipeline of one task."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import StepResources
    from distilabel.steps.tasks import TextGeneration

    kwargs = {
        "max_new_tokens": MAX_TOKENS, "temperature": TEMPERATURE,
        "extra_body": {"seed": SEED, "response_format": RESPONSE_FORMAT},
    }  # fmt: skip
    rows = [{"instruction": question(number)} for number in numbers]
    with tempfile.TemporaryDirectory() as folder:
        with Pipeline(name="benchmark", cache_dir=folder) as pipeline:
            llm = OpenAILLM(model="m", base_url=base_url, api_key="none", generation_kwargs=kwargs)
            replicas = StepResources(replicas=REPLICAS)
            TextGeneration(
                llm=llm, system_prompt=SYSTEM, input_batch_size=max(1, concurrency // REPLICAS), resources=replicas
            )
        distiset = pipeline.run(dataset=rows, dataset_batch_size=concurrency, use_cache=False)
        replies = distiset["default"]["train"]["generation"]
    assert len(replies) == len(rows)
    assert all("passage" in json.loads(reply) for reply in replies)


def with_curator(base_url: str, numbers: range, concurrency: int) -> None:
    """One call of one LLM over all rows."""
    os.environ |= {"TELEMETRY_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none"}
    import litellm

    # the tokenizer that it counts with: litellm brings it, and it is not fetched from the network
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator
    from pydantic import BaseModel, Field

    class Passage(BaseModel):
        passage: str = Field(max_length=600)

    class Writer(curator.LLM):
        response_format = Passage

        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            return messages(row["number"])

        def parse(self, row: dict[str, Any], reply: Passage) -> dict[str, Any]:
            return {"number": row["number"], "passage": reply.passage}

    limits = {"max_requests_per_minute": NO_LIMIT, "max_tokens_per_minute": NO_LIMIT}
    writer = Writer(
        model_name="gpt-4o-mini", backend="openai",
        generation_params={"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE, "seed": SEED},
        backend_params={"base_url": base_url, "max_concurrent_requests": concurrency, **limits},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        replies = writer([{"number": number} for number in numbers], working_dir=folder).dataset
        assert sorted(replies["number"]) == list(numbers)
        assert all(replies["passage"])


def environment(name: str, folder: Path) -> Path | str:
    """The Python of an environment that has the contestant, made where it is not there yet; or why there is none."""
    python = folder / name / "bin" / "python"
    making, filling = [sys.executable, "-m", "venv", str(folder / name)], [str(python), "-m", "pip", "install"]
    for command in (making, [*filling, *REQUIREMENTS[name]]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return last_line(done.stderr)
    return python


def last_line(text: str) -> str:
    """What a program said last."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no word")
