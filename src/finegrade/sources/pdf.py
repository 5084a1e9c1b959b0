"""PDF to blocks, by pypdf (the extra finegrade[pdf])."""

from pathlib import Path

from finegrade.errors import InputError
from finegrade.sources.document import Block, paragraphs

_MAX_PAGES = 3_000


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
    blocks: list[Block] = []
    begin = 0
    try:
        for number, page in enumerate(pypdf.PdfReader(path).pages[:_MAX_PAGES], start=1):
            text = page.extract_text()
            blocks += [b._replace(offset=b.offset + begin) for b in paragraphs(text, f"page {number}")]
            begin += len(text) + 1
    except Exception as error:  # a damaged or hostile file makes pypdf raise nearly anything
        raise ValueError(f"no PDF that can be read ({type(error).__name__})") from None
    return blocks
