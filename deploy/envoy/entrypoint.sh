#!/usr/bin/env bash
# How Envoy runs in its image: by itself, it exits on SIGTERM at once, with every request in flight.
#   entrypoint.sh run OPTION...       run Envoy with these options; on SIGTERM drain it, on a second one end at once
#   entrypoint.sh drain               drain it as `run` does, and return; `drain inboundonly`: the edge, not the
#                                     mesh, which a gateway that still has work needs (preStop on Kubernetes)
#   entrypoint.sh live                succeed if Envoy runs, for a container's health check
# It needs no more than bash, sleep and cat: admin, on loopback alone, is reached through /dev/tcp.
#
# MOVIEREC_CONSOLE=false leaves out the page for people.
#
# Draining, with what takes how many seconds:
#   ENVOY_UNREADY_SECONDS=5           /readyz fails, until whoever sends requests here has noticed
#   ENVOY_DRAIN_SECONDS=5             answers close their connections; then nobody is let in any more
#   2                                 requests in flight end: the edge's deadline
set -uo pipefail

unready_seconds="${ENVOY_UNREADY_SECONDS:-5}"
drain_seconds="${ENVOY_DRAIN_SECONDS:-5}"
admin_port="${ENVOY_ADMIN_PORT:-9901}"

admin() { # METHOD PATH: print the answer; fail if there is none
  { exec 3<>"/dev/tcp/127.0.0.1/$admin_port"; } 2>/dev/null || return 1
  printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
  cat <&3 2>/dev/null
  exec 3>&-
}

pause() { # as sleep, but a trap does not have to wait for its end
  sleep "$1" &
  wait $!
}

drain() {
  admin POST /healthcheck/fail >/dev/null || return 1
  pause "$unready_seconds"
  admin POST "/drain_listeners?graceful${1:+&$1}" >/dev/null
  pause "$drain_seconds"
  pause 2
}

run() {
  local envoy stopping="" code
  case "${MOVIEREC_CONSOLE:-true}" in
    true) ;;
    false) set -- "$@" --config-yaml 'layered_runtime: {layers: [{name: console, static_layer: {movierec_console_percent: 0}}]}' ;;
    *) echo "MOVIEREC_CONSOLE must be true or false" >&2 && exit 2 ;;
  esac
  trap 'stopping=yes' TERM INT
  envoy "$@" --drain-time-s "$drain_seconds" --drain-strategy immediate &
  envoy=$!
  wait "$envoy" # returns when a signal arrives, too
  code=$?
  if [[ -n "$stopping" ]]; then
    trap 'kill -KILL "$envoy"; exit 137' TERM INT
    [[ "$(admin GET /ready)" == *DRAINING* ]] || drain # preStop has done so
    kill -TERM "$envoy"
    wait "$envoy"
    code=$?
  fi
  exit "$code"
}

case "${1:-}" in
  run) shift && run "$@" ;;
  drain) drain "${2:-}" ;;
  live) [[ "$(admin GET /ready)" =~ (LIVE|DRAINING) ]] ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
esac
