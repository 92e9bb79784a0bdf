#!/usr/bin/env bash
# Every check and test of the repository: what CI runs and what README promises. Exits non-zero at the first fault.
#
# Needs Go alone. What else is found is used, and its absence is told:
#   redis-server   is started on a socket, and the Redis suites run on it too
#   golangci-lint  (.golangci.yml) is installed by go install; with CI=true the run fails without it
#   chromium, node, python3, java, php, curl, openssl   tests that need one skip themselves
# WXRELAY_SLOW=1   runs the tests that measure the wall clock or take minutes; they need a quiet machine
# WXRELAY_CRASH=n  TestKill9EverySecond sends n messages (1000 or more), see cmd/wxrelay/crash_test.go
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }
loud() { printf '\n!! %s\n' "$*" >&2; }

linter=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

work=$(mktemp -d)
redis_pid=
cleanup() {
  if [ -n "$redis_pid" ]; then kill "$redis_pid" 2>/dev/null || true; wait "$redis_pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT


step "gofmt"
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then printf '%s\n' "$unformatted"; loud "gofmt would change these"; exit 1; fi

step "go mod verify, tidy"
go mod verify
go mod tidy -diff

step "build all; both programs"
go build -trimpath -o "$work/" ./cmd/wxrelay ./cmd/wxsim
"$work/wxrelay" version

step "golangci-lint (go vet and staticcheck among its linters)"
bin="$(go env GOPATH)/bin/golangci-lint"
want="${linter##*@v}"
linted=
if { [ -x "$bin" ] && "$bin" version --short 2>/dev/null | grep -qF "$want"; } || go install "$linter" 2>"$work/lint.log"; then
  "$bin" run ./...
  linted=yes
else
  sed 's/^/   /' "$work/lint.log" >&2
  if [ "${CI:-}" = true ]; then loud "golangci-lint did not install"; exit 1; fi
  loud "golangci-lint did not install: this run goes WITHOUT it, with go vet alone"
  go vet ./...
fi

for tool in chromium node python3 java php curl openssl; do
  command -v "$tool" >/dev/null || loud "no $tool on this machine: the tests that use it are NOT RUN"
done

# One run of everything. Where there is a redis-server, the suites take it beside the in-process Redis in the same run.
if command -v redis-server >/dev/null; then
  redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work" --save '' --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --databases 128 --daemonize no >"$work/redis.log" 2>&1 &
  redis_pid=$!
  for _ in $(seq 100); do
    redis-cli -s "$work/redis.sock" ping >/dev/null 2>&1 && break
    read -rt 0.1 <> <(:) || true
  done
  step "tests, race detector on; on the in-process Redis and on $(redis-cli -s "$work/redis.sock" info server | grep -E '^redis_version' | tr -d '\r')"
  export WXRELAY_TEST_REDIS="unix://$work/redis.sock" WXRELAY_TEST_CLUSTER=1
else
  loud "no redis-server on this machine: the suites run on the in-process Redis only"
  step "tests, race detector on, on the in-process Redis"
fi
go test -race -timeout 15m ./...

step "the whole relay once: wxsim -once"
"$work/wxsim" -once

step "all checks passed${linted:+, linter included}"
