#!/usr/bin/env bash
# Installs what Lockstep needs, and the Debian packages that are named as arguments, and builds it. Changes nothing, and takes under a
# second, when all is there.
#
# What it chose and built is recorded in dist/: dist/.python is the interpreter of the engines, dist/.built is touched by every
# build. node_modules/.lockstep-lock holds the hash of the package-lock.json that was installed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 2
}

# Two set-ups in one checkout would build into each other.
mkdir -p dist
exec 9>dist/.setup_lock
flock 9

OLDEST_NODE=v20.15.0
command -v node >/dev/null || fail "Node.js ${OLDEST_NODE#v} or later is needed and was not found"
found_node=$(node --version)
[ "$(printf '%s\n' "$OLDEST_NODE" "$found_node" | sort --version-sort | head -n 1)" = "$OLDEST_NODE" ] ||
  fail "Node.js ${OLDEST_NODE#v} or later is needed, and $(command -v node) is ${found_node#v}"
command -v npm >/dev/null || fail 'npm is needed and was not found'

# --- PyTorch: LOCKSTEP_PYTHON or python3 as they are, otherwise Debian's for /usr/bin/python3 -----------------------------------

has_torch() {
  command -v "$1" >/dev/null && "$1" -c '
import importlib.util, sys
sys.exit(not all(importlib.util.find_spec(name) for name in ("torch", "numpy")))' 2>/dev/null
}

# What was found is used in other folders, too.
absolute() {
  case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
  esac
}

wanted=(etcd-server libxxhash0 openssl bible-kjv bible-kjv-text dataset-fashion-mnist "$@")
if [ -n "${LOCKSTEP_PYTHON:-}" ]; then
  has_torch "$LOCKSTEP_PYTHON" ||
    fail "LOCKSTEP_PYTHON=$LOCKSTEP_PYTHON has no torch and numpy; install them there or unset LOCKSTEP_PYTHON"
  python=$(absolute "$(command -v "$LOCKSTEP_PYTHON")")
elif has_torch python3; then
  python=$(absolute "$(command -v python3)")
else
  # Debian's PyTorch is slow without OpenBLAS, so the two come together.
  python=/usr/bin/python3
  wanted+=(python3-torch libopenblas0-pthread)
fi

# --- Debian packages -----------------------------------------------------------------------------------------------------------

missing=()
for package in "${wanted[@]}"; do
  # The first letters of the state are "ii" when a package is installed and configured.
  state=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [ "${state:0:2}" = ii ] || missing+=("$package")
done

POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# Made by Lockstep set-up; removed when it ends.'

remove_policy() {
  if grep -qsF "$POLICY_MARK" "$POLICY"; then rm -f "$POLICY"; fi
}

# Debian starts a daemon as soon as its package is installed. Lockstep runs an etcd of its own, so that one stays down.
install_packages() {
  trap remove_policy EXIT
  remove_policy
  if [ ! -e "$POLICY" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
    chmod 755 "$POLICY"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq 9>&-
  apt-get install -y -qq --no-install-recommends "${missing[@]}" 9>&-
  if [[ " ${missing[*]} " == *' etcd-server '* ]] && command -v systemctl >/dev/null; then
    systemctl disable --quiet etcd.service >/dev/null 2>&1 9>&- || say 'could not disable the etcd service that Debian enabled'
  fi
  remove_policy
  trap - EXIT
}

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    fail "this needs the Debian packages ${missing[*]}, and there is no apt-get here"
  elif [ "$(id -u)" -ne 0 ]; then
    echo "setup: these Debian packages are missing: ${missing[*]}. Run this, and then the same command again:" >&2
    echo "  sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends ${missing[*]}'" >&2
    exit 2
  fi
  say "installing Debian packages: ${missing[*]}"
  install_packages
  has_torch "$python" || fail "$python has no torch and numpy though python3-torch is installed"
fi
[ "$(cat dist/.python 2>/dev/null)" = "$python" ] || echo "$python" >dist/.python

# --- npm packages ----------------------------------------------------------------------------------------------------------------

lock_hash=$(sha256sum <package-lock.json)
if [ "$(cat node_modules/.lockstep-lock 2>/dev/null)" != "$lock_hash" ]; then
  say 'installing npm packages (npm ci)'
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error 9>&-
  echo "$lock_hash" >node_modules/.lockstep-lock
fi

# --- build -----------------------------------------------------------------------------------------------------------------------

sources=(shared coordinator worker cli bench dashboard test vitest.config.ts tsconfig.json package-lock.json)
if [ ! -e dist/.built ] || [ -n "$(find "${sources[@]}" -newer dist/.built -print -quit 2>/dev/null)" ]; then
  say 'building'
  # Stamped with the time of the beginning: what is saved during the build is built the next time.
  touch dist/.building
  npm run --silent build 9>&-
  mv dist/.building dist/.built
fi
