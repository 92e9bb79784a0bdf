#!/usr/bin/env bash
# sdk.sh has SDKs of other languages speak to the gateway in WeChat's place: only their address is changed. It installs them
# into a directory of its own and runs the journey of cmd/app that plays WeChat and the gateway around them.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in node npm; do
  command -v "$tool" >/dev/null || { echo "SKIPPED: the SDK check needs $tool, which is not installed. NOTHING WAS CHECKED." >&2; exit 0; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp scripts/testdata/sdk/* "$dir"
(cd "$dir" && npm install --no-audit --no-fund --silent) || { echo "SKIPPED: npm could not install the SDKs. NOTHING WAS CHECKED." >&2; exit 0; }
WXRELAY_NODE_SDKS="$dir" go test ./cmd/app -run 'TestNodeSDKs' -count=1 -v "$@" | grep -E '^(=== RUN|\s*---|ok|FAIL|PASS|    )'
