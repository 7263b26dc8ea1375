"""`python -m deploy.demo [--once] [--seed N]`, from the root of the repository."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import httpx
from rich.console import Console

from deploy.demo.plan import (
    BUNDLE_ROOT,
    Plan,
    SettingError,
    read_plan,
    taken_ports,
    training_process,
)
from deploy.demo.processes import Exit, Supervisor, run_to_end, tail, watch
from deploy.demo.published import PublishedBundle
from deploy.demo.readiness import StartError, wait_until_ready
from deploy.demo.signals import StopRequest, stop_requests
from deploy.demo.tour import Tour
from deploy.demo.users import read_watchers
from deploy.demo.view import new_console, say
from deploy.envoy_config import CONFIG
from serving.bundle.store import BundleStore

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
_REQUEST_SECONDS: Final = 5.0


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo",
        description=__doc__,
        epilog="All other options are those of the training: see python -m training train --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--once", action="store_true", help="end after the tour")
    options, of_training = parser.parse_known_args()
    console = new_console()
    if not CONFIG.exists():
        say(console, "run this from the root of the repository", "red")
        return UNUSABLE
    try:
        plan = read_plan(os.environ)
    except SettingError as error:
        say(console, str(error), "red")
        return UNUSABLE
    taken = taken_ports(plan.ports)
    for port in taken:
        wanted = f"{port.owner} wants it for {port.use}; {port.setting} names another"
        say(console, f"port {port.number} is taken: {wanted}", "red")
    if taken:
        return UNUSABLE
    with stop_requests() as stop_request:
        supervisor = Supervisor(BUNDLE_ROOT / "logs", stop_request)
        try:
            return _run(plan, supervisor, stop_request, console, of_training, once=options.once)
        except StartError as error:
            log = supervisor.log_path(error.process)
            say(console, f"{error}; the end of {log}:", "red")
            say(console, tail(log), "dim")
            return FAILED
        finally:
            if supervisor.started:
                say(console, "Stopping the servers.")
            supervisor.stop()


def _run(
    plan: Plan,
    supervisor: Supervisor,
    stop_request: StopRequest,
    console: Console,
    of_training: Sequence[str],
    *,
    once: bool,
) -> int:
    say(console, f"1/4 Training and publishing to {BUNDLE_ROOT}/", "bold")
    training = training_process(of_training)
    status = run_to_end(training, stop_request)
    if stop_request.made:
        return stop_request.exit_status
    if status != OK:
        say(console, f"training {Exit(training, status).cause}: {training.shell_line}", "red")
        return FAILED
    published = PublishedBundle.read(BUNDLE_ROOT, BundleStore(BUNDLE_ROOT).pointer().bundle_id)

    servers = (*plan.stages, plan.gateway)
    logs = supervisor.log_path(plan.envoy).parent
    say(console, f"2/4 Starting {len(servers)} servers and Envoy; their logs: {logs}/", "bold")
    began = time.monotonic()
    if plan.envoy_config is not None:
        (BUNDLE_ROOT / "envoy.yaml").write_text(plan.envoy_config, encoding="utf-8")
    supervisor.start(*(stage.process for stage in plan.stages))
    supervisor.start(plan.gateway.process)
    supervisor.start(plan.envoy)
    wait_until_ready(plan, supervisor, stop_request, published.bundle_id)
    if stop_request.made:
        return stop_request.exit_status
    seconds = time.monotonic() - began
    say(console, f"3/4 Ready after {seconds:.1f} s: all serve bundle {published.bundle_id}", "bold")

    if plan.console:
        say(console, f"    Look at it in a browser: {plan.url}/", "bold")
    say(console, "4/4 The tour, over REST", "bold")
    # Not through a proxy that the environment names: it may not lead back here.
    with httpx.Client(base_url=plan.url, timeout=_REQUEST_SECONDS, trust_env=False) as client:
        watchers = read_watchers(BUNDLE_ROOT, published.bundle_id)
        wrong = Tour(client, console, published, watchers, stop_request).run()
    console.print()
    if wrong:
        say(console, f"The tour found {len(wrong)} faults; each is named above.", "bold red")
    elif not stop_request.made:
        say(console, "Every answer of the tour was as it should be.", "green")
    if once:
        return FAILED if wrong else stop_request.exit_status
    say(console, f"Serving REST and gRPC at {plan.url}; Ctrl-C stops.", "bold")
    watch(supervisor, stop_request, partial(_report, console))
    return OK


def _report(console: Console, exit_: Exit) -> None:
    say(console, f"{exit_.process.name} {exit_.cause}. To start it again:", "yellow")
    say(console, f"  {exit_.process.shell_line}")


if __name__ == "__main__":
    sys.exit(main())
