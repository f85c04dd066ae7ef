#!/usr/bin/env bash
# Installs Lockstep on this machine from a Debian package, starts it, upgrades it, and takes it away. Needs root.
#
#   deploy/install.sh coordinator [--etcd] [--package FILE]    a coordinator, and with --etcd a member of etcd beside it
#   deploy/install.sh worker [--package FILE]                  a worker
#   deploy/install.sh upgrade [--package FILE]                 a newer version; what runs is restarted, and drains first
#   deploy/install.sh uninstall [--purge]                      stop and remove it; --purge: with its configuration and keys
#
# With --root DIR the files go into another root, and nothing is started. Without --package the package is built from this checkout.
set -euo pipefail
# Where whoever calls is: relative paths on the command line begin there.
from=$PWD
cd "$(dirname "$0")/.."

say() { echo "install: $*"; }
fail() {
  echo "install: $*" >&2
  exit 2
}
usage() { fail "usage: deploy/install.sh coordinator|worker|upgrade|uninstall [--etcd] [--purge] [--package FILE] [--root DIR]"; }

action=${1:-}
case "$action" in coordinator | worker | upgrade | uninstall) shift ;; *) usage ;; esac
etcd='' purge='' package='' root=''
while [ $# -gt 0 ]; do
  case "$1" in
  --etcd) etcd=1 ;;
  --purge) purge=1 ;;
  --package | --root)
    [ $# -ge 2 ] || fail "$1 needs a value"
    [ -n "$2" ] || fail "$1 needs a value"
    path=$(cd "$from" && realpath -m "$2")
    if [ "$1" = --package ]; then package=$path; else root=$path; fi
    shift
    ;;
  *) usage ;;
  esac
  shift
done
[ -z "$etcd" ] || [ "$action" = coordinator ] || fail '--etcd goes with coordinator'
[ -z "$purge" ] || [ "$action" = uninstall ] || fail '--purge goes with uninstall'
[ -z "$package" ] || [ -e "$package" ] || fail "there is no $package"
[ -z "$root" ] || [ -d "$root" ] || fail "there is no folder $root"
command -v dpkg >/dev/null || fail 'this needs Debian or one of its relatives: there is no dpkg here'
[ "$(id -u)" -eq 0 ] || fail 'this needs root'

in_root() { dpkg --root="$root" --force-depends --force-confold --force-script-chrootless --log=/dev/null "$@"; }

prepare_root() {
  mkdir -p "$root/var/lib/dpkg" "$root/etc"
  touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
}

runs_here() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

if [ "$action" = uninstall ]; then
  how=--remove
  [ -z "$purge" ] || how=--purge
  if [ -n "$root" ]; then in_root "$how" lockstep; else dpkg "$how" lockstep; fi
  say 'removed; models and checkpoints in /var/lib/lockstep and the data of etcd are left where they are'
  exit 0
fi

[ -n "$package" ] || package=$(deploy/package.sh)
if [ -n "$root" ]; then
  prepare_root
  in_root --install "$package"
  say "installed below $root"
  exit 0
fi

if [ -n "$etcd" ] && runs_here && systemctl is-active --quiet etcd.service; then
  fail 'etcd.service runs here already, on the ports of lockstep-etcd: somebody may need it; stop it, or leave --etcd away and name it in the configuration'
fi

# What a role needs besides: PyTorch on a worker, etcd beside a coordinator that has one. apt takes them from Debian.
wanted=("$package")
if [ "$action" = worker ] && ! python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; then
  wanted+=(python3-torch libopenblas0-pthread)
fi
[ -z "$etcd" ] || wanted+=(etcd-server etcd-client)
export DEBIAN_FRONTEND=noninteractive
# dpkg must not ask: a configuration that was changed here stays, and the new one lies beside it as .dpkg-dist.
keep=(-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
if ! apt-get install -y -qq --no-install-recommends --reinstall --allow-downgrades "${keep[@]}" "${wanted[@]}"; then
  fail "apt-get could not install ${wanted[*]}; does it know a nodejs of version 20.15 or later?"
fi
if [ -n "$etcd" ] && runs_here; then
  # Debian starts one of its own, on the same ports.
  systemctl disable --now --quiet etcd.service 2>/dev/null || true
fi

if [ "$action" = upgrade ]; then
  say 'upgraded; what ran was restarted'
  exit 0
fi
"lockstep-$action" --check-config
if runs_here; then
  [ -z "$etcd" ] || systemctl enable --now --quiet lockstep-etcd.service
  systemctl enable --now --quiet "lockstep-$action.service"
  systemctl --no-pager --lines=0 status "lockstep-$action.service"
fi
say "now make /etc/lockstep/$action.yaml this machine's own (docs/operations.md), and: systemctl restart lockstep-$action"
