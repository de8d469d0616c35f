#!/bin/sh
# The first process of a guest. What systemd-nspawn mounts read-only is made writable where udev and networkd look before
# they believe in a udev: the links below /sys/devices/virtual/net, and the tmpfs on /sys itself. The rest of sysfs stays
# read-only: a guest cannot touch the machine's devices.
if [ $$ = 1 ]; then
  mount --bind /sys/devices/virtual/net /sys/devices/virtual/net
  mount -o remount,bind,rw /sys/devices/virtual/net
  mount -o remount,rw /sys || mount -o remount,bind,rw /sys
fi
exec /usr/lib/systemd/systemd.real "$@"
