#!/usr/bin/env bash
# Every check and test of the house: what CI runs and what README promises. Needs only Go; a redis-server that is found
# is started on loopback and the Redis suites run on it too. Exits non-zero at the first fault.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }
loud() { printf '\n!! %s\n' "$*" >&2; }

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

step "go vet"
go vet ./...

step "staticcheck"
if go install honnef.co/go/tools/cmd/staticcheck@v0.7.0 2>"$work/staticcheck.log"; then
  "$(go env GOPATH)/bin/staticcheck" ./...
else
  sed 's/^/   /' "$work/staticcheck.log" >&2
  loud "staticcheck did not install: this run goes WITHOUT it"
fi

step "build both programs"
go build -trimpath -o "$work/wxrelay" ./cmd/wxrelay
go build -trimpath -o "$work/wxsim" ./cmd/wxsim
"$work/wxrelay" version

step "tests on the in-process Redis, race detector on (the import plan among them)"
go test -race -timeout 15m ./...

step "the Redis suites on a real redis-server"
if command -v redis-server >/dev/null; then
  redis-server --port 0 --unixsocket "$work/redis.sock" --dir "$work" --save '' --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --daemonize no >"$work/redis.log" 2>&1 &
  redis_pid=$!
  for _ in $(seq 100); do
    redis-cli -s "$work/redis.sock" ping >/dev/null 2>&1 && break
    read -rt 0.1 <> <(:) || true
  done
  redis-cli -s "$work/redis.sock" info server | grep -E '^redis_version'
  WXRELAY_TEST_REDIS="unix://$work/redis.sock" WXRELAY_TEST_CLUSTER=1 go test -race -count=1 -timeout 15m ./relay/... ./cmd/app/...
else
  loud "no redis-server on this machine: the suites ran on the in-process Redis only"
fi

step "the whole relay once: go run ./cmd/wxsim -once"
go run ./cmd/wxsim -once

step "all checks passed"
