"""Every call of docs/api and the client's README, against the running system."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from google.rpc import code_pb2

from deploy.openapi.pages import FOLDER, Call, calls
from movierec.gateway.v1 import movie_service_pb2 as pb
from tests.deploy.edge import ROOT
from tests.e2e.system import System

pytestmark = pytest.mark.e2e

METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["MovieService"].methods]
WRITTEN_FOR = "http://localhost:8080"

Json: TypeAlias = Any

# Of a movie, as far as they are known; the data set of the tests knows no tmdb_id.
MAY_BE_ABSENT = frozenset({"year", "rating_mean", "tmdb_id", "ratingMean", "tmdbId"}) | {
    *("value", "last_value", "lastValue", "last_movie_id", "lastMovieId"),  # of features
    "sources",  # of candidates
    *("rate_time", "rateTime"),  # of ratings
    *("models", "degradedCount"),  # which gRPC's JSON leaves out where there are none
    *("judged_users", "judgedUsers", "previous_bundle", "previousBundle"),  # of what is served
    *("personal_p95_seconds", "personalP95Seconds"),  # of the latest lists
}
# What does not depend on the data.
THE_SAME = frozenset({"code", "message", "@type", "reason", "domain", "field", "description", "rank"}) | {
    *("model", "source", "degraded", "fallback_reason", "fallbackReason")
}
OF_ANY_LENGTH = ("$.retrieval.sources", "$.genres", "$.models", "$.bundle.models")
"""Lists whose entries depend on the data, or on what was asked before."""
STANDINGS = ("$.retrieval.rank", "$.ranking.rank")
"""Among all movies: these ranks depend on the data."""


def pages() -> Iterator[Any]:
    for path in sorted((ROOT / FOLDER).glob("*.md")):
        for number, call in enumerate(calls(path.read_text())):
            yield pytest.param(call, id=f"{path.stem}-{number}")


def test_every_method_has_a_page_with_both_protocols() -> None:
    for method in METHODS:
        found = list(calls((ROOT / FOLDER / f"{method}.md").read_text()))
        assert any(call.is_grpc and call.url.endswith(f"/{method}") for call in found)
        assert any("code" in call.answer for call in found)
        assert any(not call.is_grpc and "code" not in call.answer for call in found)


@pytest.mark.parametrize("call", list(pages()))
def test_a_call_is_answered_as_the_page_says(system: System, call: Call) -> None:
    assert differences(call.answer, answered(system, call)) == []


def test_the_calls_of_the_overview_are_answered(system: System) -> None:
    page = (ROOT / FOLDER / "README.md").read_text()
    commands = re.findall(r"^((?:curl|buf) (?:.*\\\n)*.*)$", page, re.MULTILINE)
    asked = [Call(shlex.split(command.replace("\\\n", " ")), {}) for command in commands]
    assert {call.is_grpc for call in asked} == {False, True}
    assert all(answered(system, call) for call in asked)


def answered(system: System, call: Call) -> Json:
    url = call.url.replace(WRITTEN_FOR, system.plan.url)
    return by_buf(call, url) if call.is_grpc else by_http(call, url)


def by_buf(call: Call, url: str) -> Json:
    buf = Path(sys.executable).with_name("buf")
    command = [str(buf), *call.arguments[1:-1], url]
    assert call.arguments[-1] == call.url
    return httpx.Response(200, content=subprocess.run(command, capture_output=True, check=True).stdout).json()


def by_http(call: Call, url: str) -> Json:
    """As curl would, which need not be here."""
    headers = {"content-type": "application/json"} if call.body is not None else {}
    assert ("content-type: application/json" in call.arguments) == (call.body is not None)
    method = "GET" if call.body is None else "POST"
    response = httpx.request(method, url, json=call.body, headers=headers, trust_env=False, timeout=60)
    assert response.status_code == HTTP_STATUS[call.answer.get("code", code_pb2.OK)]
    return response.json()


HTTP_STATUS = {code_pb2.OK: 200, code_pb2.INVALID_ARGUMENT: 400, code_pb2.NOT_FOUND: 404}


def may_be_absent(documented: Json) -> frozenset[str]:
    """A feature has a movie behind it or not, everything else its movie_id."""
    return MAY_BE_ABSENT | ({"movie_id", "movieId"} if "contribution" in documented else set())


def differences(documented: Json, answer: Json, path: str = "$") -> list[str]:
    """Where two answers differ in shape, or in what does not depend on the data."""
    if isinstance(documented, dict) and isinstance(answer, dict):
        return [
            *(f"{path}.{name}" for name in (documented.keys() ^ answer.keys()) - may_be_absent(documented)),
            *(
                difference
                for name in documented.keys() & answer.keys()
                for difference in differences(documented[name], answer[name], f"{path}.{name}")
            ),
        ]
    if isinstance(documented, list) and isinstance(answer, list):
        if not documented or not isinstance(documented[0], dict) or path in OF_ANY_LENGTH:
            return []
        if len(documented) != len(answer):
            return [f"{path}: {len(answer)} instead of {len(documented)}"]
        return [
            difference
            for place, pair in enumerate(zip(documented, answer, strict=True))
            for difference in differences(*pair, f"{path}[{place}]")
        ]
    same_kind = type(documented) is type(answer) or {type(documented), type(answer)} == {int, float}
    matters = path.rpartition(".")[2] in THE_SAME and path not in STANDINGS
    return [] if same_kind and (documented == answer or not matters) else [f"{path}: {answer!r}"]


def test_differences_are_found() -> None:
    page = {"model": "a", "movies": [{"rank": 1, "score": 1.5, "movie": {"title": "x", "genres": ["y"]}}]}
    assert differences(page, page) == []
    assert differences(page, {**page, "model": "b"}) == ["$.model: 'b'"]
    assert differences(page, {**page, "movies": []}) == ["$.movies: 0 instead of 1"]
    assert differences(page, {"movies": page["movies"]}) == ["$.model"]
    assert differences({"score": 1.5}, {"score": "1.5"}) == ["$.score: '1.5'"]
    assert differences({"score": 1.5}, {"score": 2}) == []


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Where the tests' packages are first."""


def said(*command: str, **options: Any) -> str:
    """What a command prints, which ends well."""
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout, "utf-8")


def serving(code: str, system: System) -> str:
    """Code that calls this system instead."""
    return code.replace(WRITTEN_FOR.removeprefix("http://"), system.plan.url.removeprefix("http://"))


def test_the_transcript_of_buf_is_still_right(system: System) -> None:
    page = (ROOT / FOLDER / "clients.md").read_text()
    (transcript,) = re.findall(r"```console\n(\$ buf .*?)```", page, re.DOTALL)
    ran = ""
    for command in re.findall(r"^\$ ((?:.*\\\n)*.*\n)", transcript, re.MULTILINE):
        done = subprocess.run(
            ["/bin/sh", "-c", command.replace(WRITTEN_FOR, system.plan.url)],
            env={**os.environ, "PATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        ran += f"$ {command}{done.stdout}"
    assert ran == transcript


def test_the_stubs_of_python_are_made_as_the_page_says(system: System, tmp_path: Path) -> None:
    page = (ROOT / FOLDER / "clients.md").read_text()
    (transcript,) = re.findall(r"```console\n(\$ python3 -m venv .*?)```", page, re.DOTALL)
    _, _, make, _ = re.findall(r"^\$ ((?:.*\\\n)*.*\n)", transcript, re.MULTILINE)  # packages are there
    environment = {**os.environ, "PATH": PATH}
    said("/bin/sh", "-c", make.replace("~/movierec", str(ROOT)), cwd=tmp_path, env=environment)
    code = serving("\n".join(re.findall(r"^>>> (.*)", transcript, re.MULTILINE)), system)
    code = f"{code}\nprint(pb.__file__)"
    answer, file = said(sys.executable, "-c", code, env={"PYTHONPATH": str(tmp_path)}).splitlines()
    assert f"{answer}\n" == transcript.splitlines(keepends=True)[-1]
    assert Path(file).is_relative_to(tmp_path)


def test_the_clients_readme_works(system: System) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "client/README.md").read_text(), re.DOTALL)
    path = f"{ROOT / 'client'}:{ROOT / 'protos/gen'}"
    printed = said(sys.executable, "-c", serving(code, system), env={"PYTHONPATH": path})
    assert printed.startswith("two_stage False\n1 ")
    assert printed.endswith("no movie 999999999\n")
