#!/usr/bin/env bash
# Builds the Debian package from what is built in dist/ and installed in node_modules/: the same bytes whenever the same is packed.
# Usage: deploy/package.sh [FOLDER]; prints the package's path.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then out=$(cd "$from" && realpath -m "$1"); else out=$PWD/dist-package; fi

fail() {
  echo "package: $*" >&2
  exit 2
}
[ -e dist/coordinator/main.js ] && [ -e dist/dashboard/index.html ] || fail 'nothing is built; run: npm run setup'
command -v dpkg-deb >/dev/null || fail 'dpkg-deb is needed and was not found'

version=$(node -p 'require("./package.json").version')
architecture=$(dpkg --print-architecture)
# The time of the newest change, wherever and whenever it is packed.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y package.json)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
lib=$root/usr/lib/lockstep
doc=$root/usr/share/doc/lockstep
units=$root/lib/systemd/system
mkdir -p "$lib"/{bin,dist,engine} "$doc" "$units" "$root"/usr/{bin,sbin,lib/sysusers.d} "$root"/etc/lockstep/tls/{coordinator,worker,etcd} "$root/DEBIAN"

# --- program ---------------------------------------------------------------------------------------------------------------------

cp bin/lockstep bin/lockstep-coordinator bin/lockstep-worker "$lib/bin"
cp package.json LICENSE "$lib"
cp -r proto "$lib"
cp -r dist/{cli,coordinator,dashboard,shared,worker} "$lib/dist"
cp -r engine/{lockstep,preflight.py} "$lib/engine"
# What npm knows to be needed when nothing is built or tested.
modules=$(npm ls --omit=dev --all --parseable 2>/dev/null) || fail "node_modules is not what package-lock.json says; run: npm ci"
sed -n "s|^$PWD/||p" <<<"$modules" | xargs cp -r --parents -t "$lib"
rm -rf "$lib"/node_modules/{@types,koffi/vendor,koffi/doc,koffi/lib} "$lib"/node_modules/*/prebuilds
find "$lib/node_modules/koffi/src" -type f ! -name "*.js" ! -name "*.cjs" -delete
find "$lib" \( -name '*.map' -o -name '*.ts' -o -name '*.pyc' -o -name '.package-lock.json' \) -delete
find "$lib" -depth -type d -name .bin -exec rm -rf {} +
find "$lib" -depth -type d \( -name __pycache__ -o -empty \) -exec rm -rf {} +
ln -s ../lib/lockstep/bin/lockstep "$root/usr/bin/lockstep"
ln -s ../lib/lockstep/bin/lockstep-coordinator "$root/usr/sbin/lockstep-coordinator"
ln -s ../lib/lockstep/bin/lockstep-worker "$root/usr/sbin/lockstep-worker"

# --- system ----------------------------------------------------------------------------------------------------------------------

cp deploy/config/*.yaml "$root/etc/lockstep"
cp deploy/systemd/*.{service,slice} "$units"
# More workers on one machine, each with a configuration of its own.
sed -e 's|/worker\.yaml|/worker@%i.yaml|' -e 's|^Description=.*|& %i|' deploy/systemd/lockstep-worker.service >"$units/lockstep-worker@.service"
cp deploy/systemd/sysusers.conf "$root/usr/lib/sysusers.d/lockstep.conf"

# --- documents -------------------------------------------------------------------------------------------------------------------

cp deploy/debian/copyright README.md "$doc"
mkdir "$doc/docs"
cp docs/*.md "$doc/docs"
cp deploy/grafana_dashboard.json "$doc"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"

# --- package ---------------------------------------------------------------------------------------------------------------------

(cd "$root" && find etc -type f | LC_ALL=C sort | sed 's|^|/|') >"$root/DEBIAN/conffiles"
cp deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: lockstep
Version: $version
Architecture: $architecture
Maintainer: Lockstep <lockstep@localhost>
Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
Depends: nodejs (>= 20.15), python3, openssl, libsystemd0, libxxhash0
Recommends: python3-torch, libopenblas0-pthread
Suggests: etcd-server, etcd-client
Section: science
Priority: optional
Description: distributed PyTorch training with the same weights, whatever dies
 Coordinator and worker daemons that train one PyTorch model on several
 machines, and the command line of their users. The weights are the same,
 bit for bit, however many workers there are and whichever of them die.
END
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"

find "$root" -type d -exec chmod 755 {} +
find "$root" -type f -exec chmod 644 {} +
chmod 755 "$lib"/bin/* "$root"/DEBIAN/{postinst,prerm,postrm}
chmod 700 "$root"/etc/lockstep/tls/*
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
package=$out/lockstep_${version}_$architecture.deb
# The file appears whole or not at all.
dpkg-deb --root-owner-group -Zgzip -z6 --threads-max=1 --build "$root" "$package.part" >/dev/null
mv "$package.part" "$package"
echo "$package"
