"""The page for people in a real browser: every view, in both themes, on a phone and on a desk."""

import gzip
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks import console
from deploy import envoy_config
from tests.console.browser import Chromium, Theme, Visit
from tests.console.conftest import HOSTILE
from tests.deploy.edge import ROOT
from tests.e2e.system import System, eventually

pytestmark = pytest.mark.e2e

MOST_BYTES = 100 * 1024
"""Over the wire, for everything that the first view takes."""

WINDOWS: list[tuple[int, Theme]] = [(1_280, "light"), (360, "dark")]


@pytest.fixture(params=WINDOWS, ids=lambda window: f"{window[0]}-{window[1]}")
def window(request: pytest.FixtureRequest) -> tuple[int, Theme]:
    window: tuple[int, Theme] = request.param
    return window


@pytest.fixture
def visit(browser: Chromium, system: System, window: tuple[int, Theme]) -> Iterator[Visit]:
    """A window of each width and theme."""
    width, theme = window
    with browser.visit(system.plan.url, width=width, theme=theme) as visit:
        yield visit


@pytest.fixture
def desk(browser: Chromium, system: System) -> Iterator[Visit]:
    """One wide window."""
    with browser.visit(system.plan.url) as visit:
        yield visit


@pytest.fixture
def user(system: System) -> int:
    """A user whom the bundle knows."""
    return system.manifest.golden.candidate.user_id


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> str:
    """The name of a test's picture."""
    return re.sub(r"[^\w-]+", "-", request.node.name.removeprefix("test_")).strip("-")


def test_where_it_begins(visit: Visit, picture: str) -> None:
    visit.go("")
    assert len(visit.rows()) == 10
    visit.see(HOSTILE[0])  # of what is popular, beside what is trending
    visit.check(picture)


def test_a_user(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}")
    assert len(visit.rows()) == 20
    visit.see("Liked last")
    visit.see("stars on average.")
    assert visit.page.locator(".live").inner_text() == "two-stage"
    visit.check(picture)


def test_the_reasons_of_a_movie(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}")
    title = visit.page.locator(".row a.title").first
    title.click()
    visit.see("1st on this list.")
    visit.page.get_by_text("Numbers", exact=True).click()
    shown = visit.page.locator(".contributions li > span:last-child").all_inner_texts()
    *parts, score = [float(text.replace("\u2212", "-")) for text in shown]
    assert sum(parts) == pytest.approx(score, abs=0.01 * len(parts))
    visit.check(picture)


def test_why_not(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}")
    visit.rows()
    question = visit.page.get_by_placeholder("Title of a movie")
    question.fill("title of a great many")
    visit.page.locator(".options li").first.wait_for()
    question.press("Enter")
    visit.page.locator(".way").wait_for()
    visit.check(picture)


def test_a_filter(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}")
    before = visit.rows()
    visit.page.get_by_label("Genre").select_option("Comedy")
    visit.page.wait_for_url("**genre=Comedy*")
    genres = visit.page.locator(".row .genres")
    eventually(lambda: all("Comedy" in text for text in genres.all_inner_texts()) and visit.rows() != before)
    visit.check(picture)


def test_a_filter_that_leaves_nothing(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}?from=1870&to=1870")
    visit.see("No movie matches the filter.")
    visit.check(picture)
    visit.page.get_by_text("Loosen it").click()
    visit.rows()


def test_a_user_whom_nobody_knows(visit: Visit, picture: str) -> None:
    visit.expected = ("/api/users/",)  # which is 404
    visit.go("#/people/999999999")
    visit.see("Nobody knows user 999999999. This is what is popular.")
    visit.rows()
    visit.check(picture)


def test_somebody_new(visit: Visit, picture: str) -> None:
    visit.go("#/new")
    visit.see("Nothing is known yet")
    before = visit.rows()
    for place in (0, 1, 2):
        visit.page.locator(".taste .like").nth(place).click()
    visit.see("Known by 3 ratings. Stage one and ranking both use them.")
    assert visit.rows() != before
    visit.page.locator(".taste .dislike").nth(1).click()
    visit.page.locator(".taste.disliked").wait_for()
    visit.check(picture)
    shared = visit.page.url
    visit.page.goto("about:blank")
    visit.page.goto(shared)
    visit.see("Known by 3 ratings.")
    assert visit.page.locator(".taste.liked").count() == 2


def test_movies(visit: Visit, picture: str) -> None:
    visit.go("#/movies")
    assert visit.rows()[0].startswith(HOSTILE[0])
    visit.check(picture)


def test_a_movie(visit: Visit, picture: str, popular_ids: list[int]) -> None:
    visit.go(f"#/movies/{popular_ids[5]}")
    assert visit.rows()
    visit.see("Liked by the same people")
    visit.check(picture)


def test_health(visit: Visit, picture: str) -> None:
    visit.go("#/health")
    visit.see("Everything serves.")
    assert visit.page.locator(".card").count() == 3
    visit.check(picture)


def test_two_bundles(visit: Visit, picture: str, user: int) -> None:
    visit.go(f"#/people/{user}/bundles")
    visit.see("What moved, and why")
    visit.page.locator(".message.warning").wait_for(state="detached")  # ranking loads the one before last
    before, now = (visit.page.locator(".pair ol").nth(place).locator("li") for place in (0, 1))
    assert before.count() == now.count() == 20
    movies = [
        side.locator(".title").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        for side in (before, now)
    ]
    tags = [side.locator(".tag > [aria-hidden]").all_inner_texts() for side in (before, now)]
    assert tags[0].count("gone") == tags[1].count("new") == len(set(movies[1]) - set(movies[0])) > 0
    assert any(tag.startswith("↓") for tag in tags[1])
    assert visit.page.locator(".moves li").count() >= tags[1].count("new")
    visit.see("It was behind the list before.")
    visit.check(picture)


def test_what_moved_a_movie_is_named(desk: Visit, system: System, user: int) -> None:
    """The list before is the current one, but for two movies that changed places, and why."""
    status = httpx.get(f"{system.plan.url}/api/status", trust_env=False).json()
    before, now = (status[name]["bundle_id"] for name in ("previous_bundle", "bundle"))
    moved: list[Any] = []

    def answer(route: Any) -> None:
        response = route.fetch(url=route.request.url.replace(before, now))
        listed = response.json()
        first, _, third = moved[:] = json.loads(json.dumps(listed["movies"][:3]))
        listed["movies"][0] = {**third, "rank": 1}
        listed["movies"][2] = {**first, "rank": 3}
        first["explanation"][1]["contribution"] -= 5
        third["explanation"][0]["contribution"] += 5
        third["explanation"][0]["phrase"] = "another phrase"
        route.fulfill(response=response, body=json.dumps({**listed, "bundle_id": before}))

    desk.page.route(f"**bundle_id={before}", answer)
    desk.go(f"#/people/{user}/bundles")
    moves = desk.page.locator(".moves li")
    moves.first.wait_for()
    assert desk.page.locator(".pair ol").nth(1).locator(".tag > [aria-hidden]").all_inner_texts()[:4] == [
        "↑ 2",
        "=",
        "↓ 2",
        "=",
    ]
    assert desk.page.locator(".joins path.up").count() == 1
    down, up = moves.locator("p").all_inner_texts()
    phrase = moved[0]["explanation"][1]["phrase"]
    assert up == f"From 3rd to 1st. What changed most: {phrase}, which counts for more now."
    assert down.startswith("From 1st to 3rd. What changed most: ")
    assert down.endswith(", and before, another phrase.")


def test_without_a_previous_bundle(visit: Visit, picture: str, user: int) -> None:
    def answer(route: Any) -> None:
        response = route.fetch()
        status = {name: value for name, value in response.json().items() if name != "previous_bundle"}
        route.fulfill(response=response, body=json.dumps(status))

    visit.page.route("**/api/status", answer)
    visit.go(f"#/people/{user}/bundles")
    visit.see("There is no previous bundle")
    visit.check(picture)
    visit.page.get_by_role("link", name="To the list", exact=True).click()
    visit.rows()


def test_a_comparison_that_is_given_up_is_no_failure(desk: Visit, user: int) -> None:
    """Its end was taken for that of the one in its place, and said that something was aborted."""
    asked = 0

    def answer(route: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            return  # another answer would hide what stands there
        status = route.fetch().json()
        if asked == 2:
            del status["previous_bundle"]
        route.fulfill(json=status)

    desk.page.route("**/api/status", answer)
    desk.page.route("**bundle_id=*", lambda _: None)
    desk.go(f"#/people/{user}/bundles")
    desk.see("There is no previous bundle")
    desk.page.unroute_all()
    assert desk.faults == []


def test_the_call_of_a_list_can_be_copied(browser: Chromium, system: System, user: int) -> None:
    with browser.visit(system.plan.url) as desk:
        desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        desk.go(f"#/people/{user}")
        titles = desk.rows()
        desk.page.get_by_role("button", name="Copy as curl").click()
        desk.see("Copied")
        program, url = shlex.split(desk.page.evaluate("navigator.clipboard.readText()"))
        assert program == "curl"
        answer = httpx.get(url, trust_env=False).json()
        assert [item["movie"]["title"] for item in answer["movies"]] == [
            re.sub(r" \d{4}$", "", title) for title in titles
        ]


def test_ids_can_be_copied(browser: Chromium, system: System, user: int) -> None:
    with browser.visit(system.plan.url) as desk:
        desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])

        def copy(label: str) -> str:
            button = desk.page.get_by_role("button", name=label, exact=True)
            button.press("Enter")
            said = desk.page.locator(".id", has=button).get_by_role("status")
            said.get_by_text("Copied").wait_for()
            assert button.evaluate("button => button === document.activeElement")
            text: str = desk.page.evaluate("navigator.clipboard.readText()")
            return text

        desk.go(f"#/people/{user}")
        title = re.sub(r" \d{4}$", "", desk.rows()[0])
        movie = desk.page.locator(".row").first.get_attribute("data-movie")
        desk.page.locator("a.title").first.click()
        assert copy("Copy the id of the user") == str(user)
        assert copy(f"Copy the id of {title}") == movie
        desk.page.evaluate("location.hash = '#/health'")
        assert copy("Copy the id of the bundle") == system.manifest.bundle_id


def test_health_is_drawn_again_only_where_it_changed(desk: Visit, system: System) -> None:
    desk.go("#/health")
    button = desk.page.get_by_role("button", name="Copy the id of the bundle", exact=True)
    button.focus()
    lists = desk.page.locator(".legend").inner_text()
    httpx.get(f"{system.plan.url}/api/movies/popular", trust_env=False)
    eventually(lambda: desk.page.locator(".legend").inner_text() != lists)
    assert button.evaluate("button => button === document.activeElement")


@pytest.mark.long
def test_the_benchmark_measures(desk: Visit, system: System) -> None:
    measured = console.measured(desk.page, system.plan.url, times=2)
    assert measured.keys() == console.INTERACTIONS.keys()
    assert all(len(taken) == 2 and min(taken) > 0 for taken in measured.values())
    answers, size = console.first_view_bytes(desk.page, system.plan.url)
    assert 10 < answers < 100
    assert 10_000 < size < MOST_BYTES


def test_no_such_page(visit: Visit, picture: str) -> None:
    visit.go("#/nowhere")
    visit.see("No such page")
    visit.check(picture)


def test_the_search(desk: Visit, picture: str) -> None:
    desk.go("")
    desk.page.keyboard.press("/")
    desk.page.keyboard.type("img src")
    desk.page.locator(".options li").first.wait_for()
    desk.check(picture)
    desk.page.keyboard.press("Enter")
    desk.page.wait_for_url("**#/movies/*")
    desk.page.locator("main").get_by_text(HOSTILE[0]).first.wait_for()


def test_keys_go_through_the_list(desk: Visit, user: int) -> None:
    desk.go(f"#/people/{user}")
    first, second = desk.rows()[:2]
    desk.page.locator("a.title").first.focus()
    desk.page.keyboard.press("ArrowDown")
    desk.page.keyboard.press("Enter")
    desk.see("2nd on this list.")
    desk.page.keyboard.press("Escape")
    desk.see("Liked last")
    assert first != second


def test_ranking_is_killed_and_comes_back(desk: Visit, picture: str, system: System, user: int) -> None:
    desk.go(f"#/people/{user}")
    before = desk.rows()
    system.kill("ranking")
    try:
        desk.see("Ranking does not answer. This list is ordered by stage one alone.")
        desk.page.locator(".live", has_text="stage one alone").wait_for()
        desk.check(picture)
        desk.page.evaluate("location.hash = '#/health'")
        desk.see("Ranking does not serve.")
        desk.check(f"{picture}-health")
        desk.page.evaluate(f"location.hash = '#/people/{user}'")
        desk.see("Ranking does not answer.")
    finally:
        system.mend()
    desk.page.get_by_text("Ranking does not answer.").wait_for(state="detached")
    eventually(lambda: desk.rows() == before)


def test_an_edge_that_is_gone(desk: Visit, picture: str, user: int) -> None:
    desk.expected = ("ERR_FAILED",)
    desk.go(f"#/people/{user}")
    before = desk.rows()
    desk.page.route("**/api/**", lambda route: route.abort())
    desk.page.get_by_label("From").fill("1990")
    desk.page.keyboard.press("Enter")
    desk.see("The edge does not answer.")
    desk.see("This is the list of")
    assert desk.rows() == before
    desk.page.locator(".live", has_text="no answer").wait_for()
    desk.page.screenshot(path=f"build/console/{picture}.png")
    desk.page.unroute("**/api/**")
    desk.page.get_by_text("The edge does not answer.").wait_for(state="detached")


SLOW_BODIES = """
const taken = Response.prototype.text;
const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
Response.prototype.text = async function () { await later(300); return taken.call(this); };
Response.prototype.json = async function () { await later(300); return JSON.parse(await taken.call(this)); };
"""
"""Bodies that come after the headers: who gives a call up in between has an answer and no content of it."""


def test_a_search_given_up_within_its_answer_is_no_answer(desk: Visit) -> None:
    desk.page.add_init_script(SLOW_BODIES)
    desk.go("")
    desk.page.keyboard.press("/")
    for letters in ("img", " ", "src"):
        with desk.page.expect_response("**/api/movies:search*"):
            desk.page.keyboard.type(letters)
    desk.page.locator(".options li", has_text=HOSTILE[0]).wait_for()
    assert desk.faults == []


@pytest.mark.parametrize("body", ["", "<html>upstream</html>", "null", '{"movies": ['])
def test_an_answer_that_is_no_json_is_no_answer(desk: Visit, body: str) -> None:
    desk.page.route("**/api/**", lambda route: route.fulfill(status=200, body=body))
    desk.go("")
    desk.see("The edge does not answer.")
    desk.page.locator(".live", has_text="no answer").wait_for()
    desk.page.unroute("**/api/**")
    desk.rows()
    assert desk.faults == []


def test_why_not_where_nothing_is_told(desk: Visit, user: int) -> None:
    desk.expected = ("status of 501", "status of 503")
    disabled = {"message": "off", "details": [{"reason": "METHOD_DISABLED", "domain": "movierec"}]}
    desk.page.route("**/why?*", lambda route: route.fulfill(status=501, json=disabled))
    desk.page.route("**/api/movies/1", lambda route: route.fulfill(status=503, json={"message": "Not now."}))
    desk.go(f"#/people/{user}?movie=1")
    desk.see("Not now.")
    desk.page.unroute("**/api/movies/1")
    desk.go(f"#/people/{user}?movie=1")
    desk.see("Why a movie is not on a list is not told here")
    assert [fault for fault in desk.faults if not any(part in fault for part in desk.expected)] == []


MARKUP = "<img src=x onerror=alert(1)>\"'[/]\u202e"


def with_markup(answer: Any) -> Any:
    """An answer whose texts are all markup, but for times, which no text of a data set gets into."""
    if isinstance(answer, dict):
        return {key: value if key.endswith("_time") else with_markup(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [with_markup(value) for value in answer]
    return MARKUP if isinstance(answer, str) else answer


@pytest.mark.parametrize(
    "address",
    [
        "#/people/{user}",
        "#/people/{user}?movie=1",
        "#/people/{user}/bundles",
        "#/movies/1",
        "#/health",
        "#/new",
    ],
)
def test_markup_from_the_api_is_text(desk: Visit, user: int, address: str) -> None:
    def answer(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=json.dumps(with_markup(response.json())))

    desk.expected = ("bundle_id=%3Cimg",)  # there is no such bundle, which is 400
    desk.page.route("**/api/**", answer)
    desk.go(address.format(user=user))
    desk.see("<img src=x onerror=alert(1)>")
    desk.page.wait_for_timeout(200)
    assert [fault for fault in desk.faults if not any(part in fault for part in desk.expected)] == []
    assert desk.page.locator("main img").count() == 0


@pytest.mark.parametrize(
    "address",
    [
        f"#/people/{MARKUP}",
        f"#/people/1?genre={MARKUP}&from={MARKUP}&diversity={MARKUP}&movie={MARKUP}",
        f"#/movies/{MARKUP}",
        f"#/new?r={MARKUP}",
        f"#/{MARKUP}",
        "#/people/%E0%A4%A",
        "#/new?r=1:5,1:5,2:NaN,-1:5,1e9:3,:,",
    ],
)
def test_markup_in_an_address_is_text(desk: Visit, address: str) -> None:
    desk.expected = ("400 (Bad Request)", "404 (Not Found)")
    desk.go(address)
    desk.page.wait_for_timeout(500)
    assert desk.page.locator("h1").count() == 1
    assert [fault for fault in desk.faults if not any(part in fault for part in desk.expected)] == []
    assert desk.page.locator("main img").count() == 0


def test_a_query_with_markup_is_text(desk: Visit) -> None:
    desk.go("")
    desk.page.get_by_label("Find a movie").first.fill(f"zzqq {MARKUP}")
    desk.see("No title is like")
    assert desk.faults == []
    assert desk.page.locator("header img").count() == 0


def test_the_first_view_is_small(desk: Visit) -> None:
    sizes: dict[str, int] = {}
    desk.page.on(
        "response",
        lambda response: sizes.update({response.url: response.request.sizes()["responseBodySize"]}),
    )
    desk.go("")
    desk.rows()
    desk.page.wait_for_timeout(300)
    assert len(sizes) > 10
    assert sum(sizes.values()) <= MOST_BYTES


def paths() -> list[str]:
    files = sorted((ROOT / envoy_config.CONSOLE).rglob("*.*"))
    return [
        "/" if path.name == "index.html" else f"/console/{path.relative_to(ROOT / 'console')}"
        for path in files
    ]


@pytest.mark.parametrize("path", paths())
def test_files_come_compressed_and_let_nothing_else_in(system: System, path: str) -> None:
    response = httpx.get(system.plan.url + path, trust_env=False)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    if len(gzip.compress(response.content)) > 1024:
        assert response.headers["content-encoding"] == "gzip"
