"""The demo's parts, with tiny children in the place of servers."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from deploy import envoy_config
from deploy.demo.plan import Plan, Port, SettingError, read_plan, taken_ports
from deploy.demo.processes import Exit, Process, Supervisor, run_to_end, tail, watch
from deploy.demo.readiness import StartError, wait_until_ready
from deploy.demo.signals import StopRequest, stop_requests
from deploy.demo.users import choose_watchers
from serving.ids import IdMap
from tests.deploy.edge import PATIENCE_SECONDS
from tests.e2e.system import eventually
from tests.training.small import ratings_of

ROOT = Path(__file__).parents[2]
FOREVER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); {FOREVER}"


def python(name: str, code: str, **settings: str) -> Process:
    return Process(name=name, command=(sys.executable, "-c", code), settings=settings)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, and not yet asked after


def pid_of(supervisor: Supervisor, process: Process) -> int:
    """Wait for what a child that prints its pid has printed."""
    log = supervisor.log_path(process)
    eventually(lambda: log.read_text().endswith("\n"))
    return int(log.read_text())


PRINTS_PID = f"import os; print(os.getpid(), flush=True); {FOREVER}"


@pytest.fixture
def stop_request() -> StopRequest:
    return StopRequest()


@pytest.fixture
def supervisor(tmp_path: Path, stop_request: StopRequest) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs", stop_request)
    yield supervisor
    supervisor.stop(within_seconds=0)


# Ports and settings


def has_ipv6_loopback() -> bool:
    """A kernel may know IPv6 and have no address of it, as in many containers."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],  # noqa: S104
)
def test_a_port_is_taken_on_any_address(family: socket.AddressFamily, address: str) -> None:
    if family == socket.AF_INET6 and not has_ipv6_loopback():
        pytest.skip("no IPv6 here")
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC does
        listener.bind((address, 0))
        listener.listen()
        taken = Port(listener.getsockname()[1], "gateway", "gRPC", "SETTING")
        free = Port(free_port(), "ranking", "gRPC", "OTHER")
        assert taken_ports([free, taken]) == [taken]
    assert taken_ports([free, taken]) == []


def test_a_port_wanted_twice_is_taken() -> None:
    first = Port(free_port(), "gateway", "gRPC", "SETTING")
    second = Port(first.number, "ranking", "gRPC", "OTHER")
    assert taken_ports([first, second]) == [second]


def test_default_plan() -> None:
    plan = read_plan({})
    assert [port.number for port in plan.ports] == [8080, 50051, 50052, 50053, 50054, *range(9101, 9105)]
    assert plan.envoy_config is None
    assert str(envoy_config.CONFIG) in plan.envoy.command
    assert plan.stages[1].process.shell_line.startswith("MOVIEREC_RANKING_BUNDLE_ROOT=artifacts ")
    assert plan.stages[1].process.shell_line.endswith("python -m ranking_service")


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "65536", "8080.0", "²"])
def test_an_unreadable_port_names_its_variable(text: str) -> None:
    with pytest.raises(SettingError, match="MOVIEREC_GATEWAY_METRICS_PORT"):
        read_plan({"MOVIEREC_GATEWAY_METRICS_PORT": text})


def test_the_demo_ends_at_once_when_a_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "deploy.demo", "--once"],
            cwd=ROOT,
            env={**os.environ, "MOVIEREC_ENVOY_PORT": port},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    wanted = f"port {port} is taken: envoy wants it for HTTP; MOVIEREC_ENVOY_PORT names another"
    assert wanted in done.stdout.splitlines()
    assert "Training" not in done.stdout


# Children


def test_a_death_is_reported_once_with_the_command_that_repairs_it(
    supervisor: Supervisor, stop_request: StopRequest
) -> None:
    dying = python("ranking", "print('last words'); raise SystemExit(3)", BUNDLE_ROOT="two words")
    supervisor.start(dying, python("gateway", FOREVER))
    reports: list[Exit] = []

    def report(exit_: Exit) -> None:
        reports.append(exit_)
        stop_request.receive(signal.SIGINT)

    watch(supervisor, stop_request, report)
    assert reports == [Exit(dying, 3)]
    assert reports[0].cause == "exited with status 3"
    assert dying.shell_line.startswith("BUNDLE_ROOT='two words' ")
    assert tail(supervisor.log_path(dying)) == "last words"
    assert supervisor.new_exits() == []


def test_a_program_that_is_not_there_says_so_in_its_log(supervisor: Supervisor) -> None:
    missing = Process("envoy", ("/no/such/envoy",))
    supervisor.start(missing)
    eventually(lambda: bool(supervisor.new_exits()))
    assert tail(supervisor.log_path(missing)) == "/no/such/envoy: No such file or directory"


def test_stop_goes_from_the_last_wave_to_the_first(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(order)!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    waves = [Process(name, (sys.executable, "-c", code, name)) for name in ("stage", "gateway", "envoy")]
    for process in waves:
        supervisor.start(process)
    eventually(lambda: all(tail(supervisor.log_path(process)) == "up" for process in waves))
    supervisor.stop()
    assert order.read_text().split() == ["envoy", "gateway", "stage"]


@pytest.mark.parametrize("within_seconds", [0.2, float("inf")], ids=["late", "after a second signal"])
def test_stop_kills_what_does_not_end(
    supervisor: Supervisor, stop_request: StopRequest, within_seconds: float
) -> None:
    stubborn = python("stubborn", f"import os; print(os.getpid(), flush=True); {STUBBORN}")
    supervisor.start(stubborn)
    log = supervisor.log_path(stubborn)
    eventually(lambda: "up" in log.read_text())
    for _ in range(2 if within_seconds > 1 else 0):
        stop_request.receive(signal.SIGINT)
    supervisor.stop(within_seconds=within_seconds)
    assert not is_running(int(log.read_text().split()[0]))


DEMO_IN_SMALL = f"""
import pathlib, sys
from deploy.demo.processes import Process, Supervisor, watch
from deploy.demo.signals import stop_requests
with stop_requests() as stop:
    supervisor = Supervisor(pathlib.Path(sys.argv[1]), stop)
    supervisor.start(Process("child", (sys.executable, "-c", {PRINTS_PID!r})))
    watch(supervisor, stop, print)
    supervisor.stop()
"""


@pytest.mark.parametrize(
    ("signal_number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_no_child_outlives_the_demo(tmp_path: Path, signal_number: int, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", DEMO_IN_SMALL, str(tmp_path)], cwd=ROOT) as demo:
        log = tmp_path / "child.log"
        eventually(lambda: log.exists() and log.read_text().endswith("\n"))
        pid = int(log.read_text())
        assert is_running(pid)
        demo.send_signal(signal_number)
        assert demo.wait(PATIENCE_SECONDS) == code
    eventually(lambda: not is_running(pid))


def test_run_to_end(stop_request: StopRequest) -> None:
    assert run_to_end(python("training", "raise SystemExit(4)"), stop_request) == 4
    stop_request.receive(signal.SIGTERM)
    assert run_to_end(python("training", FOREVER), stop_request) == -signal.SIGTERM


def test_stop_requests() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as request:
        assert not request.wait(0)
        assert request.exit_status == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.wait(float("inf"))
        assert not request.urgent
        assert request.exit_status == 143
        os.kill(os.getpid(), signal.SIGINT)
        eventually(lambda: request.urgent)
    assert signal.getsignal(signal.SIGTERM) == before


# Readiness


def plan_on_free_ports() -> Plan:
    """A plan of which nothing runs."""
    names = ("ENVOY", "GATEWAY", "CANDIDATE", "RANKING", "SIMILARITY")
    return read_plan({f"MOVIEREC_{name}_PORT": str(free_port()) for name in names})


def test_a_server_that_ends_is_named(
    supervisor: Supervisor, stop_request: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plan = plan_on_free_ports()
    supervisor.start(python("candidate", FOREVER), python("ranking", "raise SystemExit(1)"))
    with pytest.raises(StartError, match="ranking exited with status 1") as caught:
        wait_until_ready(plan, supervisor, stop_request, "b1")
    assert caught.value.process.name == "ranking"


def test_servers_that_are_late_are_named_and_waiting_ends_when_asked_to_stop(
    supervisor: Supervisor, stop_request: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(StartError, match="bundle b1 in time: candidate, ranking, similarity, gateway, envoy"):
        wait_until_ready(plan_on_free_ports(), supervisor, stop_request, "b1", within_seconds=0)
    stop_request.receive(signal.SIGINT)
    wait_until_ready(plan_on_free_ports(), supervisor, stop_request, "b1")


# Users


def test_users_of_the_tour() -> None:
    # User 1 liked nothing, 2 to 10 liked all six movies, 11 only four of them.
    movies = IdMap([10, 20, 30, 40, 50, 60])
    stars = [[1.0] * 6, *[[5.0] * 6] * 9, [5.0] * 4 + [3.0] * 2]
    ratings = ratings_of(*([(row, value, 0) for row, value in enumerate(values)] for values in stars))
    first, second, third = choose_watchers(ratings, movies, 6)
    assert (first.user_id, first.liked) == (1, ())
    assert first.seen == {10, 20, 30, 40, 50, 60}
    assert 1 < second.user_id < third.user_id < 11
    assert second.liked[:2] == ((60, 5.0), (50, 5.0))
    assert choose_watchers(ratings, movies, 7) == []  # what they would get is what is popular


def test_users_of_a_tour_through_almost_nothing() -> None:
    ratings = replace(ratings_of([(0, 1.0, 0)]), users=IdMap([7]))  # user 1 would be one of them
    assert choose_watchers(ratings, IdMap([10]), 0) == []
