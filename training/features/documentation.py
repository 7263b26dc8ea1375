"""Writes the page that lists all features, with what they say, but for what was measured.

python -m training.features.documentation docs/features.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving.features.group import Feature, FeatureGroup
from serving.features.sets import ALL_GROUPS, FeatureSet, names_of_groups
from serving.movies import MOVIELENS_GENRES

_HEAD: Final = """# Features

<!-- Written by `make features` from serving/features; edit it there. -->

What the ranker sees of a candidate movie. Features come in groups. `train` keeps the groups that pay on a
validation part, or those of `compact` where fewer than 300 users can judge
([ADR 0034](adr/0034-feature-groups-per-data-set.md)). `--features` names a set instead:

{sets}

`extended` has every feature: `ease` holds that of `ease_likes`. `untimed` needs neither times nor order.
The flags of genres are those of the catalogue; below are MovieLens's. An explanation names a feature, its
value, and what the value says; `{{movie}}` is the title of a movie that the user rated, whose id stands
beside the phrase. How to add a group: [CONTRIBUTING](../CONTRIBUTING.md#adding-a-feature).
"""


MEASURED: Final = "## What the groups are worth\n"
"""The heading of the part that `benchmarks.feature_groups` measured: it is the last."""


def document(measured: str) -> str:
    """The page as Markdown; it ends with what was `measured`, from its heading on, if anything was."""
    parts = [_HEAD.format(sets="\n".join(_sets()))]
    parts += ["\n".join(_section(group)) for group in ALL_GROUPS]
    return "\n".join([*parts, measured] if measured else parts)


def measured_part(page: str) -> str:
    """What was measured, out of a page that `document` wrote; nothing where nothing was."""
    _, heading, rest = page.partition(MEASURED)
    return heading + rest


def _sets() -> Iterator[str]:
    yield "| Set | Groups |"
    yield "|---|---|"
    for features in FeatureSet:
        yield f"| `{features}` | {', '.join(names_of_groups(features.groups))} |"


def _section(group: type[FeatureGroup]) -> Iterator[str]:
    yield f"## {group.NAME}, version {group.VERSION}"
    yield ""
    yield (group.__doc__ or "").split("\n\n")[0]
    if group.array_names():
        arrays = ", ".join(f"`{name}`" for name in group.array_names())
        yield f"Built in training: {arrays}."
    yield ""
    yield "| Feature | What a value says | At 1 | At 0 and below | When missing |"
    yield "|---|---|---|---|---|"
    yield from map(_row, group.features_for(MOVIELENS_GENRES))
    yield ""


def _row(feature: Feature) -> str:
    phrases = (feature.phrase, feature.one, feature.otherwise, feature.unknown)
    return f"| `{feature.name}` | {' | '.join(phrases)} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(document(measured_part(page.read_text(encoding="utf-8"))), encoding="utf-8")
