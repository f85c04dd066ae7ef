#!/usr/bin/env bash
# Trains for real on a GPU and compares: see docs/gpu.md. Options: --cpu, --json, --steps S, --workers 1,2,4.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing() {
  echo "test/gpu/run.sh: $*" >&2
  exit 2
}

command -v node >/dev/null || missing 'Node.js 20 or later is missing'
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || missing "Node.js 20 or later is needed; this is $(node --version)"
[ -e node_modules/@grpc/grpc-js ] || missing 'the npm packages are missing; run: npm ci --ignore-scripts'

if [ ! -e dist/.built ] || [ -n "$(find shared coordinator worker cli bench test -name '*.ts' -newer dist/.built -print -quit)" ]; then
  mkdir -p dist
  npm run --silent build >&2
  touch dist/.built
fi
exec node dist/test/gpu/check.js "$@"
