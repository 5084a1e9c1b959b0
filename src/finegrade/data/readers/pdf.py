"""PDF to blocks, by pypdf (the extra finegrade[pdf])."""

import logging
from pathlib import Path

from finegrade.data.readers.document import Block, paragraphs
from finegrade.errors import InputError

MAX_PAGES = 5_000


def pdf_blocks(path: Path) -> list[Block]:
    """The paragraphs of a PDF file, each under the number of its page.

    Raises:
        InputError: pypdf is not installed.
        ValueError: It cannot be read.
    """
    try:
        import pypdf
    except ImportError:
        remedy = 'Install it: pip install "finegrade[pdf]". Or leave the PDF files out of the folder.'
        raise InputError(str(path), got="no pypdf", wanted="pypdf to read PDF files", remedy=remedy) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is wrong with a file is told by us, once
    try:
        pages = pypdf.PdfReader(path).pages
        texts = [page.extract_text() for page in pages] if len(pages) <= MAX_PAGES else None
    except Exception as error:  # a damaged or hostile file makes pypdf raise nearly anything
        raise ValueError(f"no PDF that can be read ({type(error).__name__})") from None
    if texts is None:
        raise ValueError(f"more than {MAX_PAGES:,} pages")
    blocks: list[Block] = []
    begin = 0
    for number, text in enumerate(texts, start=1):
        blocks += [b._replace(offset=b.offset + begin) for b in paragraphs(text, f"page {number}")]
        begin += len(text) + 1
    return blocks
