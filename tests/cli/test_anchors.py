"""`finegrade anchors`: shares that add up, tokens in their order, text that stays text."""

from pathlib import Path

import pytest

from finegrade.cli.anchors import as_page, show_anchors
from finegrade.errors import InputError
from finegrade.models.anchors import load_anchor_model, token_shares
from finegrade.models.encoder import build_encoder, save_encoder

HOSTILE = "<script>alert(1)</script> \x1b[31m & <b>red</b>"


@pytest.fixture(scope="module")
def folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anchor") / "model"
    save_encoder(build_encoder(str(tiny_encoder), pooling="anchor", max_length=16, device="cpu"), path)
    return path


@pytest.mark.slow
def test_shares_add_up_to_1_and_tokens_stand_in_their_order(folder):
    model = load_anchor_model(folder)
    texts = ["The valve opens, slowly.", "It closes."]
    found = token_shares(model, texts)
    for text, tokens in zip(texts, found, strict=True):
        assert sum(token.share for token in tokens) == pytest.approx(1)
        assert tokens[0].is_special
        message = "".join(" " * token.after_space + token.text for token in tokens if not token.is_special)
        assert message.strip() == text
    assert len({round(token.share, 4) for token in found[0]}) > 2


@pytest.mark.slow
def test_alone_and_beside_another_text_the_shares_are_the_same(folder):
    model = load_anchor_model(folder)
    (alone,) = token_shares(model, ["It closes."])
    _, beside = token_shares(model, ["The valve opens, slowly, when the pressure rises.", "It closes."])
    assert [token.share for token in beside] == pytest.approx([token.share for token in alone], abs=1e-5)


def test_what_the_model_does_not_read_is_not_shown(folder):
    model = load_anchor_model(folder)
    (tokens,) = token_shares(model, ["valve " * 100])
    assert len(tokens) == model.max_seq_length == 16


def test_the_terminal_and_the_page(folder, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("It closes.")
    show_anchors(["The valve opens."], [tmp_path / "a.txt"], folder, tmp_path / "a.html")
    message = capsys.readouterr().out
    assert "times the mean" in message
    assert "valve" in message
    page = (tmp_path / "a.html").read_text()
    assert page.count("<section>") == 2
    assert "opens" in page


def test_text_stays_text(folder, capsys):
    show_anchors([HOSTILE], [], folder, None)
    assert "\x1b[31m" not in capsys.readouterr().out
    page = as_page(token_shares(load_anchor_model(folder), [HOSTILE]), "<model>")
    assert "<script" not in page
    assert "<b>" not in page
    assert "<model>" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(("texts", "files"), [([], []), (["  "], []), ([], ["gone.txt"]), ([], ["binary.txt"])])
def test_nothing_to_look_at_is_reported(folder, tmp_path, texts, files):
    (tmp_path / "binary.txt").write_bytes(b"\0\1")
    with pytest.raises(InputError):
        show_anchors(texts, [tmp_path / name for name in files], folder, None)


def test_a_model_that_pools_otherwise_is_reported(tiny_encoder, tmp_path):
    save_encoder(build_encoder(str(tiny_encoder), pooling="mean", device="cpu"), tmp_path / "mean")
    with pytest.raises(InputError, match="got Pooling; wanted anchor pooling"):
        load_anchor_model(tmp_path / "mean")
    with pytest.raises(InputError, match="no model"):
        load_anchor_model(tmp_path)


@pytest.fixture(scope="module")
def bytes_folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer takes each byte for a token, and that has a default prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: i for i, sign in enumerate(["<pad>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    backbone = tmp_path_factory.mktemp("bytes") / "backbone"
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(backbone)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=64)
    fast.save_pretrained(backbone)
    model = build_encoder(str(backbone), pooling="anchor", device="cpu")
    model.prompts, model.default_prompt_name = {"text": "text: "}, "text"
    save_encoder(model, backbone.with_name("model"))
    return backbone.with_name("model")


@pytest.mark.parametrize("text", ["日本語 über", "😀 a\n b", "ab"])
def test_a_sign_of_several_tokens_is_shown_once_and_the_default_prompt_too(bytes_folder, text):
    (tokens,) = token_shares(load_anchor_model(bytes_folder), [text])
    shown = "".join(token.text.replace("␣", "") for token in tokens)
    assert shown == "".join(f"text: {text}".split())
    assert sum(token.share for token in tokens) == pytest.approx(1)
    assert not any(token.is_special for token in tokens)
    assert "" not in {token.text for token in tokens}


def test_text_that_is_no_unicode_is_shown_all_the_same(folder, capsys):
    show_anchors(["\udcff read"], [], folder, None)
    assert "read" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["", ".", "/", "folder", "file/page.html"])
def test_a_page_that_is_no_file_gives_an_error_before_anything_is_done(folder, tmp_path, monkeypatch, capsys, path):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(InputError, match=r"--html: got a (folder|path below file, which is a file); wanted a file"):
        show_anchors(["some words"], [], folder, Path(path))
    assert not capsys.readouterr().out


def test_a_model_that_came_apart_is_reported(folder):
    import torch

    model = load_anchor_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(InputError, match="got no numbers"):
        token_shares(model, ["some words"])
