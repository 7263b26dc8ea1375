"""Titles as MovieLens writes them, and as people read them."""

import re
from typing import Final

from serving.movies import UNKNOWN_YEAR

# Also "(2006-2008)" and "(2007-)" for series, and "(1995) (V)" for video. \u2013 is the longer dash.
_YEAR: Final = re.compile(r"\(((?:18|19|20)\d\d)(?:[-\u2013](?:\d{4})?)?\)(?: ?\((?:V|TV)\))?$")

_ARTICLES: Final = (
    *("A", "An", "The", "Da", "Das", "De", "Den", "Der", "Det", "Die", "Ein", "Eine", "El", "En", "Et"),
    *("Gli", "Het", "I", "Il", "L'", "L\u2019", "La", "Las", "Le", "Les", "Lo", "Los", "O", "Os"),
    *("Un", "Una", "Une", "Uno"),
)
# "Boot, Das (Boat, The)": an article ends the title, or a title in parentheses. Only with a capital:
# "One, Two, Three" and "Paris, Texas" end in a word after a comma, too.
_ARTICLE_LAST: Final = re.compile(
    r"(?P<before>^|\((?:a\.k\.a\. )?)(?P<name>[^()]+?), "
    rf"(?P<article>{'|'.join(_ARTICLES)})(?= ?(?:[()]|$))"
)


def parse_title(raw: str) -> tuple[str, int]:
    """The title as shown, and the year: "Matrix, The (1999)" is "The Matrix" of 1999.

    Other titles in parentheses stay, their articles put back as well. The year is 0 when there is none.
    """
    raw = " ".join(raw.split())  # first: searching runs of blanks would take the square of their length
    found = _YEAR.search(raw)
    title = raw[: found.start()] if found else raw
    title = " ".join(_ARTICLE_LAST.sub(_with_article_first, title.strip()).split())
    return title or raw, int(found[1]) if found else UNKNOWN_YEAR


def _with_article_first(match: re.Match[str]) -> str:
    gap = "" if match["article"].endswith(("'", "\u2019")) else " "
    return f"{match['before']}{match['article']}{gap}{match['name']}"
