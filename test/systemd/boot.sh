#!/bin/bash
# Becomes the first process of a machine: a root file system of its own over this one's, in which all that is written stays in memory,
# with systemd as its process 1. To be run in new mount, pid, cgroup, ipc and uts namespaces. Nothing of the real machine can be changed
# from inside but the folder that is shared.
# Usage: boot.sh NAME SHARED-FOLDER system|user
set -euo pipefail
name=$1 shared=$2 manager=$3

mount --make-rprivate /
hostname "$name"
ip link set lo up
stage=$shared/.$name
mkdir -p "$stage"
mount -t tmpfs -o size=2g machine "$stage"
mkdir "$stage"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$stage/upper,workdir=$stage/work" machine "$stage/root"
cd "$stage/root"

# Only what a test asks for is started, and nothing of a boot that would tidy up, probe devices or set the kernel.
echo "$name" >etc/hostname
rm -rf lib/systemd/system/*.target.wants etc/systemd/system/* lib/systemd/system-generators etc/fstab
mkdir -p etc/systemd/system/sysinit.target.wants
ln -s /lib/systemd/system/systemd-journald.socket etc/systemd/system/sysinit.target.wants/
echo 'Storage=volatile' >etc/systemd/journald.conf
printf '[Manager]\nDefaultTimeoutStopSec=30s\n' >etc/systemd/system.conf
printf '[Unit]\nDescription=The machine of a test\nRequires=basic.target\nAfter=basic.target\n' >etc/systemd/system/machine.target

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
for folder in tmp var/tmp; do mount -t tmpfs -o mode=1777 tmp "$folder"; done
mount -t tmpfs -o mode=755 run run
mkdir -p "./$shared"
mount --bind "$shared" "./$shared"

mkdir -p mnt/real
pivot_root . mnt/real
cd /
umount -l /mnt/real
# As on a real machine, among the mounts of this one only: systemd mounts the credentials of a unit in a namespace that ends at once.
mount --make-rshared /
export container=lockstep-test PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ "$manager" = user ]; then
  export HOME=/root XDG_RUNTIME_DIR=/run/user/0
  # It runs only where a systemd has booted.
  mkdir -p /run/systemd/system /run/user/0
  chmod 700 /run/user/0
  /usr/lib/systemd/systemd --user --log-target=console &
  wait
else
  exec /usr/lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=false
fi
