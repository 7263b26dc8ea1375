"""What a page refers to is there: links, files and names of the code; and every page can be found."""

import re
from pathlib import Path

import pytest

from tests.deploy.edge import ROOT

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = (
    "benchmarks|candidate_service|client|deploy|gateway|protos|ranking_service|serving|similarity_service"
    "|tests|training"
)
FILE = re.compile(rf"`((?:{CODE})/[\w/.-]+\.(?:jinja|json|lua|proto|py|sh|toml|ya?ml))`")
NAME = re.compile(rf"(?:`|python -m )((?:{CODE})(?:\.\w+)+)\b")
IMPORT = re.compile(rf"from ((?:{CODE})(?:\.\w+)*) import (\w+)")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "client/README.md"})


def pages_but(name: str) -> pytest.MarkDecorator:
    """Every page but those of this name."""
    pages = [page for page in PAGES if page.name != name]
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def links(page: str) -> list[str]:
    """Targets within the repository."""
    found = LINK.findall(FENCED.sub("", page))
    return [target for target in found if not re.match(r"https?:", target)]


def anchors(page: str) -> set[str]:
    """Of all headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pages_but("template.md")
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def stale(page: str) -> list[str]:
    """Files and names of the code that a page mentions, and that are not there."""
    files = [path for path in FILE.findall(page) if not (ROOT / path).exists()]
    names = NAME.findall(page) + [".".join(imported) for imported in IMPORT.findall(page)]
    return files + [name for name in names if not is_in_code(name)]


def is_in_code(name: str) -> bool:
    """Whether this is a package, a module, or what a module defines."""
    *packages, last = name.split(".")
    path = ROOT.joinpath(*packages)
    module = path.with_suffix(".py")
    return (
        (path / last).is_dir()
        or (path / f"{last}.py").exists()
        or (
            module.exists()
            and re.search(rf"^(?:class |def |)({last})\b", module.read_text(), re.MULTILINE) is not None
        )
    )


# A changelog tells what was, and a file of a log is no module.
@pages_but("CHANGELOG.md")
def test_every_file_and_name_is_in_the_code(page: Path) -> None:
    assert [name for name in stale(page.read_text(encoding="utf-8")) if not name.endswith(".log")] == []


def test_stale_files_and_names_are_found() -> None:
    page = "`serving/none.py` `serving/ids.py` `serving.none` `serving.ids.None` `serving.ids.IdMap`"
    assert stale(page) == ["serving/none.py", "serving.none", "serving.ids.None"]
    assert stale("python -m training.none; python -m training.sync --watch 60") == ["training.none"]
    assert stale("from serving.ids import IdMap\nfrom serving.ids import None") == ["serving.ids.None"]


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One, `two`\n[a](#one-two) [b](#three) [c](page.md#one-two) [d](none.md) [e](https://x.test)\n"
        "```\n# No heading\n[f](none.md)\n```\n"
    )
    assert broken(page) == ["#three", "none.md"]


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/README.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text())}
    pages = [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/operations").glob("*.md"),
        *ROOT.glob("docs/*/README.md"),
    ]
    assert {page for page in pages if page != index} - named == set()


def test_the_index_names_every_decision() -> None:
    index = ROOT / "docs/adr/README.md"
    decisions = sorted(path.name for path in index.parent.glob("[0-9]*.md"))
    assert [link for link in links(index.read_text()) if link in decisions] == decisions
