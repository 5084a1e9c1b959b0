"""The synthesize stage against a fake LLM: what it makes, and that no reply is ever asked for twice."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from finegrade.config import Config, SynthesisConfig
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.records import Sample, Seed
from finegrade.stages.pipeline import call_stage, synthesize
from finegrade.storage.run_folder import SAMPLES, SET_ASIDE, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import read_rows, write_rows
from finegrade.text import content_hash
from helpers.corpus import write_pairs
from helpers.fake_llm import FakeLLM
from helpers.kill import acknowledged
from helpers.runs import asked_for, rewrite

KEY = "sk-secret-KEY-456"


def slowly(body):
    threading.Event().wait(0.02)
    return rewrite(body)


@pytest.fixture
def config(fake_llm, pairs_file, monkeypatch, no_retries):
    """A configuration that names the fake LLM."""
    fake_llm.answer = rewrite
    monkeypatch.setenv("TEST_LLM_KEY", KEY)

    def config(llm_samples=6, concurrency=1, **llm) -> Config:
        data = {
            "source": {"path": str(pairs_file)},
            "llm": {"base_url": fake_llm.base_url, "api_key_env": "TEST_LLM_KEY", "concurrency": concurrency} | llm,
            "synthesis": {"mode": "sibling", "llm_samples": llm_samples, "shard_rows": 40},
        }
        return parse_config(data, "test")

    return config


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A run folder whose seeds stage is done."""
    folder = tmp_path_factory.mktemp("seeded")
    config = parse_config({"source": {"path": str(write_pairs(folder / "pairs.jsonl"))}}, "test")
    call_stage("seeds", config, RunFolder(folder / "run"))
    return folder / "run"


@pytest.fixture
def new_run(tmp_path, seeded):
    """Makes run folders whose seeds stage is done."""

    def new_run(name="run") -> RunFolder:
        return RunFolder(Path(shutil.copytree(seeded, tmp_path / name)))

    return new_run


def samples(run) -> list[Sample]:
    return read_rows(run.path(SAMPLES), Sample)


def forget(run) -> None:
    """Leaves of the stage only the ledger."""
    shutil.rmtree(run.path(SAMPLES))


def set_aside(run) -> list[dict]:
    return [json.loads(line) for line in run.path(SET_ASIDE).read_text().splitlines()]


def test_every_seed_becomes_a_sample_with_levels_1_to_4(config, new_run):
    run = new_run()
    synthesize(config(), run)
    made = samples(run)
    seeds = {seed.id: seed for seed in read_rows(run.path(TRAIN_SEEDS), Seed)}
    assert len(made) == len(seeds)
    assert {s.id for s in made} == set(seeds)
    for sample in made:
        assert sample.id == content_hash(sample.query, sample.positive)
        assert [n.level for n in sample.negatives] == sorted({n.level for n in sample.negatives})
        assert {n.level for n in sample.negatives} <= {1, 2, 3, 4}
        assert sample.positive == seeds[sample.id].positives[0]
        assert sample.positive not in [n.text for n in sample.negatives]
    assert sum(len(s.negatives) == 4 for s in made) > len(made) / 2


def test_hardest_level_is_the_llm_s_where_a_rewrite_was_accepted(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(6), run)
    written = [(s, n) for s in samples(run) for n in s.negatives if n.source == "llm"]
    assert len(written) == 4
    for sample, negative in written:
        assert negative.level == 4
        assert negative is sample.negatives[-1]
        assert negative.sibling
        assert negative.text.endswith("Then it is quite done.")
        assert [n.level for n in sample.negatives].count(4) == 1
    assert {n.source for s in samples(run) for n in s.negatives if n.level == 1} == {"random"}
    assert {n.source for s in samples(run) for n in s.negatives if n.level in (2, 3)} == {"mined"}


def test_what_is_refused_is_kept_with_its_reason_and_counted(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(6), run)
    refused = set_aside(run)
    assert len(refused) == 2
    assert len(fake_llm.requests) == 6
    assert {row["reason"] for row in refused} == {"not the JSON that was asked for"}
    assert {row["text"] for row in refused} == {"Sure! Here is a passage."}
    assert {row["level"] for row in refused} == {4}
    by_query = {s.query: s for s in samples(run)}
    for row in refused:  # the corpus takes the LLM's place
        assert [n.source for n in by_query[row["query"]].negatives if n.level == 4] == ["mined"]
    details = run.record("synthesize")["details"]
    assert details["set_aside"]["llm: not the JSON that was asked for"] == len(refused)
    assert details["negatives"]["level 4 llm"] == 4
    assert details["usage"]["replies"] == len(fake_llm.requests)
    assert details["usage"]["completion_tokens"] == 3 * len(fake_llm.requests)


def test_levels_that_stay_empty_are_counted_and_told(config, new_run, capsys):
    run = new_run()
    path = run.path(TRAIN_SEEDS)
    seeds = read_rows(path, Seed)
    write_rows(path, [seeds[0].model_copy(update={"query": "zebra"}), *seeds[1:]], Seed)
    with run.stage("seeds", {}) as stage:
        stage.finish([path], {})
    synthesize(config(0), run)
    levels = Counter(n.level for s in samples(run) for n in s.negatives)
    empty = {str(level): len(seeds) - levels[level] for level in (4, 3, 2, 1) if levels[level] < len(seeds)}
    assert run.record("synthesize")["details"]["empty_levels"] == empty
    assert empty["4"] == 1
    assert "neither the LLM nor the corpus gave: level 4 in 1" in capsys.readouterr().err


def test_a_miner_that_is_no_bi_encoder_is_refused_before_the_llm_writes(config, new_run, fake_llm, tmp_path):
    made = config()
    miner = made.synthesis.model_copy(update={"miner": "dense", "miner_model": str(tmp_path / "gone")})
    with pytest.raises(InputError, match="gone"):
        synthesize(made.model_copy(update={"synthesis": miner}), new_run())
    assert fake_llm.requests == []


def test_llm_that_writes_only_rubbish_leaves_mined_negatives(config, new_run, fake_llm):
    fake_llm.answer = lambda body: FakeLLM.reply("\x00" * 1000)
    run = new_run()
    synthesize(config(), run)
    assert {n.source for s in samples(run) for n in s.negatives} == {"mined", "random"}
    assert len(set_aside(run)) == len(fake_llm.requests)


def test_finished_stage_asks_nothing(config, new_run, fake_llm, capsys):
    run = new_run()
    synthesize(config(), run)
    count = len(fake_llm.requests)
    synthesize(config(), run)
    synthesize(config(concurrency=3, timeout=7.0), run)  # settings that change no reply
    assert len(fake_llm.requests) == count
    assert "synthesize: kept from" in capsys.readouterr().err


@pytest.mark.slow
def test_changed_gates_make_the_samples_again_and_ask_nothing(config, new_run, fake_llm, monkeypatch):
    run = new_run()
    synthesize(config(), run)
    count = len(fake_llm.requests)
    monkeypatch.setattr("finegrade.stages.synthesize.CHECKS", 0)
    monkeypatch.setattr("finegrade.synthesis.writer.NegativeChecks.refusal", lambda checks, text: "not today")
    synthesize(config(), run)
    assert len(fake_llm.requests) == count
    assert run.record("synthesize")["details"]["set_aside"]["llm: not today"] > 0


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.slow
def test_second_run_reads_the_ledger_and_asks_nothing(config, new_run, fake_llm, concurrency, capsys):
    fake_llm.answer = slowly
    run = new_run()
    synthesize(config(concurrency=concurrency), run)
    first, outputs = [asked_for(body) for body in fake_llm.requests], run.record("synthesize")["outputs"]
    forget(run)
    synthesize(config(concurrency=concurrency), run)
    assert [asked_for(body) for body in fake_llm.requests] == first
    assert run.record("synthesize")["outputs"] == outputs
    assert "what it holds is not asked again" in capsys.readouterr().err


@pytest.mark.slow
def test_more_samples_ask_only_for_what_is_new(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(4), run)
    assert len(fake_llm.requests) == 4
    synthesize(config(8), run)
    prompts = [asked_for(body) for body in fake_llm.requests]
    assert len(prompts) == len(set(prompts)) == 8


def test_changed_parser_or_gate_reads_the_replies_again(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(4), run)
    count = len(fake_llm.requests)
    stricter = config(4).model_copy(
        update={"synthesis": SynthesisConfig(mode="sibling", llm_samples=4, min_changed=99)}
    )
    before = [row["reason"] for row in set_aside(run)]
    synthesize(stricter, run)
    assert len(fake_llm.requests) == count
    assert "near-copy of the positive" in {row["reason"] for row in set_aside(run)} - set(before)


@pytest.mark.slow
def test_concurrency_changes_no_sample(config, new_run, fake_llm):
    def slow_at_times(body):
        if len(asked_for(body)) % 2:
            threading.Event().wait(0.02)
        return rewrite(body)

    fake_llm.answer = slow_at_times
    outputs, refused = [], []
    for concurrency in (1, 8):
        run = new_run(f"run{concurrency}")
        synthesize(config(concurrency=concurrency), run)
        outputs.append(run.record("synthesize")["outputs"])
        refused.append(set_aside(run))
    assert outputs[0] == outputs[1]
    assert refused[0] == refused[1]


@pytest.fixture
def whole(config, new_run):
    """The outputs of a run that nothing interrupted."""
    run = new_run("whole")
    synthesize(config(20), run)
    return run.record("synthesize")["outputs"], set_aside(run)


def continues_as(whole, config, run, fake_llm, answered) -> None:
    """Runs on: what was answered is not asked again, and the result is that of the whole run."""
    before = [asked_for(body) for body in fake_llm.requests[:answered]]
    fake_llm.requests.clear()
    fake_llm.answer = rewrite
    synthesize(config(20), run)
    assert not {asked_for(body) for body in fake_llm.requests} & set(before)
    assert (run.record("synthesize")["outputs"], set_aside(run)) == whole


@pytest.mark.parametrize("answered", [1, 4])
@pytest.mark.slow
def test_continues_after_the_server_broke_down(config, new_run, fake_llm, whole, answered):
    fake_llm.requests.clear()
    fake_llm.answer = lambda body: rewrite(body) if len(fake_llm.requests) <= answered else (500, {})
    run = new_run()
    with pytest.raises(InputError, match="HTTP status 500"):
        synthesize(config(20), run)
    assert not run.path(SAMPLES).exists()
    continues_as(whole, config, run, fake_llm, answered)


@pytest.mark.slow
def test_continues_after_kill_9(config, new_run, fake_llm, whole, tmp_path):
    answered = 4
    waiting, over = threading.Event(), threading.Event()

    def stall(body):
        if len(fake_llm.requests) > answered:
            waiting.set()
            over.wait(30)
        return rewrite(body)

    fake_llm.requests.clear()
    fake_llm.answer = stall
    run = new_run()
    (tmp_path / "config.json").write_text(config(20).model_dump_json())
    code = (
        "from pathlib import Path\nfrom finegrade.config import Config\n"
        "from finegrade.storage.run_folder import RunFolder\n"
        "from finegrade.stages.pipeline import synthesize\n"
        f"config = Config.model_validate_json(Path({str(tmp_path / 'config.json')!r}).read_text())\n"
        f"synthesize(config, RunFolder(Path({str(run.root)!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        try:
            assert waiting.wait(30)
            deadline = time.monotonic() + 30
            while len(acknowledged(run.root)) < answered:  # the last reply may still be under way
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            over.set()
    continues_as(whole, config, run, fake_llm, answered)


def test_key_is_sent_and_in_no_file_of_the_run_folder(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(), run)
    assert set(fake_llm.keys) == {f"Bearer {KEY}"}
    contents = [path.read_bytes() for path in run.root.rglob("*") if path.is_file()]
    assert len(contents) > 4
    assert not [content for content in contents if KEY.encode() in content]


@pytest.fixture
def embedded(monkeypatch, tmp_path):
    """Stands for the embedded LLM: a second fake server; gives it and what happened to it."""
    local, events = FakeLLM(), []
    local.answer = rewrite

    class Server:
        base_url, api_key = local.base_url, "of-the-embedded-one"

        def __init__(self, model, context, log):
            self.model = model.name

        def __enter__(self):
            events.append(("started", self.model))
            return self

        def __exit__(self, *error):
            events.append(("ended", self.model))

    (tmp_path / "model.gguf").touch()
    monkeypatch.setattr("finegrade.llm.session.EmbeddedServer", Server)
    yield local, events
    local.close()


@pytest.fixture
def local_config(pairs_file, tmp_path):
    def local_config(llm_samples=3, model="model.gguf") -> Config:
        data = {
            "source": {"path": str(pairs_file)},
            "llm": {"model": str(tmp_path / model)},
            "synthesis": {"llm_samples": llm_samples},
        }
        return parse_config(data, "test")

    return local_config


def test_environment_never_chooses_a_remote_llm(local_config, new_run, fake_llm, embedded, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", fake_llm.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    local, events = embedded
    synthesize(local_config(), new_run())
    assert fake_llm.requests == []
    assert local.requests
    assert set(local.keys) == {"Bearer of-the-embedded-one"}
    assert events == [("started", "model.gguf"), ("ended", "model.gguf")]


def test_embedded_llm_is_not_started_where_base_url_names_a_server(config, new_run, embedded):
    synthesize(config(), new_run())
    assert embedded[1] == []


@pytest.mark.parametrize("remote", [True, False])
def test_without_llm_samples_nothing_is_asked_or_started(
    remote, config, local_config, new_run, fake_llm, embedded, monkeypatch
):
    monkeypatch.setattr("finegrade.llm.session.model_path", None)
    run = new_run()
    synthesize(config(0) if remote else local_config(0), run)
    assert fake_llm.requests == embedded[0].requests == embedded[1] == []
    assert {n.source for s in samples(run) for n in s.negatives} == {"mined", "random"}


def test_embedded_model_must_be_gguf(local_config, new_run, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"llm.model: got .*folder; wanted a .gguf file. Or name a server"):
        synthesize(local_config(model="folder"), new_run())


def test_needs_the_seeds_stage(config, tmp_path):
    with pytest.raises(InputError, match="Run `finegrade seeds` first"):
        synthesize(config(), RunFolder(tmp_path / "empty"))


def test_an_embedded_model_is_named_by_its_content(tmp_path, config):
    """A .gguf that was replaced under the same name is another model: nothing of the old one's is taken for its own."""
    from finegrade.llm.session import model_name

    model = tmp_path / "model.gguf"
    names = set()
    for content in (b"one", b"another"):
        model.write_bytes(content)
        names.add(model_name(config().llm.model_copy(update={"base_url": None, "model": str(model)})))
    assert len(names) == 2
    assert model_name(config().llm) == config().llm.model


def test_a_refused_request_is_set_aside_with_its_reason(config, new_run, fake_llm):
    fake_llm.answer = lambda body: (400, {}) if len(fake_llm.requests) == 2 else rewrite(body)
    run = new_run()
    synthesize(config(), run)
    assert [row["reason"] for row in set_aside(run)].count("request refused by the server") == 1
    assert sum(n.source == "llm" for s in samples(run) for n in s.negatives) > 0


def test_a_server_that_refuses_everything_is_told_also_where_little_is_asked(config, new_run, fake_llm):
    fake_llm.answer = lambda body: (422, {})
    run = new_run()
    with pytest.raises(InputError, match="got a refusal of all 3 requests"):
        synthesize(config(3), run)
    assert not run.path(SAMPLES).exists()


def test_a_key_that_is_not_set_is_told_before_anything_is_asked(config, new_run, fake_llm, monkeypatch):
    monkeypatch.delenv("TEST_LLM_KEY")
    with pytest.raises(InputError, match=r"llm.api_key_env: got TEST_LLM_KEY, which is not set"):
        synthesize(config(), new_run())
    assert fake_llm.requests == []


def test_without_api_key_env_no_key_of_the_environment_is_sent(config, new_run, fake_llm, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    synthesize(config(api_key_env=None), new_run())
    assert set(fake_llm.keys) == {"Bearer none"}
