"""kill -9 at random instants in every stage: what runs on ends as if nothing had happened, and asks nothing twice."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finegrade.config import Config
from finegrade.config.toml import parse_config
from finegrade.storage.atomic import read_json
from helpers.corpus import write_documents
from helpers.fake_llm import FakeLLM, grade
from helpers.kill import Server
from helpers.query_stage import answer as queries_of

pytestmark = pytest.mark.slow

KILLS = 20
STAGES = ("documents", "queries", "seeds", "synthesize", "verify", "train", "evaluate", "report")
RECORDS = {"train": ["train-finegrade"], "evaluate": ["score-bm25", "score-base", "score-finegrade", "evaluate"]}


def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Searches for a passage; a grade; a changed passage for a rewrite, good enough for the filters now and then."""
    asked = body["messages"][-1]["content"]
    if asked.startswith("passage: "):
        return queries_of(body)
    if graded := grade(body):
        return graded
    _, passage, sibling = asked.split("\n")
    words = passage.removeprefix("passage: ").split()
    words[3:3] = sibling.removeprefix("query B: ").split()
    words[8:10] = []
    return FakeLLM.reply(json.dumps({"passage": " ".join(words)}))


@pytest.fixture(scope="module")
def llm() -> Iterator[FakeLLM]:
    server = FakeLLM()
    server.answer = answer
    yield server
    server.close()


class Whole:
    """A run that nothing interrupted: its configuration, its folder before each stage, and how long each took."""

    def __init__(self, config: Config, folder: Path, server: Server) -> None:
        self.config, self.before, self.seconds = config, {}, {}
        run = folder / "run"
        run.mkdir()
        for stage in STAGES:
            self.before[stage] = Path(shutil.copytree(run, folder / f"before-{stage}"))
            ended = server.do(stage, run, config)
            assert ended["end"] == 0, stage
            self.seconds[stage] = ended["seconds"]
        self.run = run

    def outputs(self, run: Path, stage: str) -> list[dict[str, Any]]:
        """What the stage's records say it wrote, with the hashes; of the report only that it is there.

        Of verification also what it tells of itself, beside the seconds of the LLM.
        """
        records = [read_json(run / "stages" / f"{name}.json") for name in RECORDS.get(stage, [stage])]
        if stage == "report":
            return [dict.fromkeys(record["outputs"], "") for record in records]
        told = [record["details"] | {"usage": {}} for record in records if stage == "verify"]
        return [record["outputs"] for record in records] + told


@pytest.fixture(scope="module")
def whole(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory, llm: FakeLLM, server: Server) -> Whole:
    folder = tmp_path_factory.mktemp("kill")
    data = {
        "source": {
            "kind": "documents", "path": str(write_documents(folder / "docs", 16)), "chunk_tokens": 80,
            "language": "any", "test_share": 0.3,
        },
        "llm": {"base_url": llm.base_url, "model": "m"},
        "queries": {"chunks": 40},
        "synthesis": {"mode": "sibling", "llm_samples": 8, "shard_rows": 3, "max_passage_chars": 900},
        "verification": {"scorer": "bge-small-en", "committee": [], "margin": 0.0, "max_length": 64},
        "training": {
            "backbone": str(tiny_encoder), "steps": 8, "batch_size": 4, "checkpoint_every": 2, "bf16": False,
            "controls": False, "max_length": 32,
        },
        "evaluation": {"sts": False, "resamples": 100},
    }  # fmt: skip
    return Whole(parse_config(data, "test"), folder, server)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_random_instants_ends_as_if_nothing_had_happened(
    stage: str, whole: Whole, server: Server, llm: FakeLLM, tmp_path: Path
) -> None:
    generator = random.Random(stage)
    wanted, seconds = whole.outputs(whole.run, stage), whole.seconds[stage]
    kills, round_ = 0, 0
    while kills < KILLS:
        round_ += 1
        run = Path(shutil.copytree(whole.before[stage], tmp_path / f"run{round_}"))
        llm.requests.clear()
        kills_here = 0
        while kills + kills_here < KILLS:
            ended = server.do(stage, run, whole.config, generator.uniform(0, seconds))
            if ended["end"] != "killed":
                break
            kills_here += 1
        if not kills_here:
            seconds = min(seconds, ended["seconds"])  # the machine is faster now than it was
        assert server.do(stage, run, whole.config)["end"] == 0
        assert whole.outputs(run, stage) == wanted
        asked = Counter(json.dumps(body, sort_keys=True) for body in llm.requests)
        # for each kill: the request under way, and the one whose reply was not on the disk yet
        assert sum(asked.values()) - len(asked) <= 2 * kills_here
        kills += kills_here
        shutil.rmtree(run)


def test_others_data_that_is_verified_with_kills_comes_out_as_without(server: Server, tmp_path: Path) -> None:
    """Nothing of a killed process stays beside the data but what its result is made of."""
    rules = {"scorer": "bm25", "committee": [], "weakest_positive": -9.0}
    config = parse_config({"source": {"kind": "python-docs"}, "verification": rules}, "test")
    rows = [
        {"query": f"query {i}", "pos": [f"query {i} answered"], "neg": [f"text {i} {j}" for j in range(i % 4)]}
        for i in range(200)
    ]

    def place(name: str) -> Path:
        (tmp_path / name).mkdir()
        data = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "data.jsonl").write_text(data, encoding="utf-8")
        return tmp_path / name / "run"

    def written(run: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.parent.iterdir() if path.is_file()}

    whole = place("whole")
    took = server.do("given", whole, config)
    assert took["end"] == 0
    generator, kills, round_, seconds = random.Random("given"), 0, 0, took["seconds"]
    while kills < KILLS:
        round_ += 1
        run = place(f"{round_}")
        before = kills
        while kills < KILLS:
            ended = server.do("given", run, config, generator.uniform(0, seconds))
            if ended["end"] != "killed":
                break
            kills += 1
        if kills == before:
            seconds = min(seconds, ended["seconds"])
        assert server.do("given", run, config)["end"] == 0
        assert written(run) == written(whole)
