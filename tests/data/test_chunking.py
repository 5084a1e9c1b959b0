"""Chunks: nothing is lost or invented, none is too long, and each says where it begins."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.data.chunking import chunk_document
from finegrade.data.readers.document import Block, Document, paragraphs


def by_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def chunks(document: Document, limit: int) -> list[Block]:
    return list(chunk_document(document, limit, by_words))


words = st.text(
    st.characters(categories=["Ll", "Lu", "Po"], exclude_characters="。！？"),  # these end a sentence within a word
    min_size=1,
    max_size=12,
)
blocks = st.lists(
    st.tuples(st.sampled_from(["", "A", "A > B", "A > C", "D"]), st.lists(words, min_size=1, max_size=60)), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(blocks, st.integers(8, 60))
def test_words_stay_in_order_and_chunks_within_the_limit(parts, limit) -> None:
    document = Document("x", [Block(heading, " ".join(told), 0) for heading, told in parts])
    made = chunks(document, limit)
    for piece in made:
        assert piece.text
        longest_word = 1  # a sentence is cut between words only
        assert len(piece.text.split()) <= limit + longest_word
    inside = " ".join(" ".join(told) for _, told in parts).split()
    headings = {f"{h}:" for h in ("A", "B", "C", "D")}
    assert [w for piece in made for w in piece.text.split() if w not in headings] == [
        w for w in inside if w not in headings
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=30).map(" ".join), min_size=1, max_size=8), st.integers(8, 40))
def test_the_offset_leads_to_the_beginning_of_the_chunk(told, limit) -> None:
    text = "\n\n".join(told)
    for piece in chunks(Document("x", paragraphs(text)), limit):
        first = piece.text.split()[0]
        assert text[piece.offset :].split()[0].endswith(first) or text[piece.offset :].lstrip().startswith(first)


def test_sections_are_not_mixed_unless_they_are_small() -> None:
    long = "word " * 20
    made = chunks(Document("x", [Block("A", long, 0), Block("B", long, 100)]), 60)
    assert [piece.heading for piece in made] == ["A", "B"]
    made = chunks(Document("x", [Block("T > A", "few words", 0), Block("T > B", "and more", 20)]), 60)
    assert made == [Block("T > A", "few words B: and more", 0)]


def test_sentences_stay_whole_where_they_fit() -> None:
    text = "One two three four. Five six seven eight! Nine ten (eleven twelve?) Thirteen."
    made = [piece.text for piece in chunks(Document("x", paragraphs(text)), 8)]
    assert made == ["One two three four. Five six seven eight!", "Nine ten (eleven twelve?) Thirteen."]


def test_a_text_without_spaces_is_cut_too() -> None:
    def by_signs(texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    made = list(chunk_document(Document("x", paragraphs("字" * 100)), 30, by_signs))
    assert "".join(piece.text for piece in made) == "字" * 100
    assert max(len(piece.text) for piece in made) <= 30


def test_long_headings_are_cut_from_outside() -> None:
    heading = " > ".join(f"section number {i}" for i in range(40))
    (piece,) = chunks(Document("x", [Block(heading, "A text.", 0)]), 60)
    assert heading.endswith(piece.heading)
    assert len(piece.heading) <= 200
