# Makes a guest of a Debian userland: customize.sh ROOT networkd|NetworkManager. Beside it are the files that it installs.
set -eu
here=$(dirname "$0")
root=$1
units=$root/etc/systemd/system

behind() { # file, what takes its place and runs it
  mv "$root$1" "$root$1.real"
  install -m 755 "$here/$2" "$root$1"
}
behind /usr/lib/systemd/systemd init.sh
if [ -e "$root/usr/libexec/netplan/generate" ]; then
  behind /usr/libexec/netplan/generate netplan-generate.sh
fi

mask() { for unit; do ln -sf /dev/null "$units/$unit"; done; }
# What a guest in a container cannot have, and what only costs time.
mask sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  modprobe@.service systemd-modules-load.service console-getty.service \
  apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service e2scrub_all.timer fstrim.timer

# Who wants it starts it.
rm -f "$units/multi-user.target.wants/ssh.service"

drop_in() { # unit, lines on standard input
  mkdir -p "$units/$1.d"
  cat >"$units/$1.d/guest.conf"
}
# systemd keeps udev out of containers. Here it has work to do, for NICs and for nothing else.
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket; do
  printf '[Unit]\nConditionPathIsReadWrite=\n' | drop_in $unit
done
drop_in systemd-udev-trigger.service <<'UNIT'
[Unit]
ConditionPathIsReadWrite=
[Service]
ExecStart=
ExecStart=-udevadm trigger --subsystem-match=net --action=add
UNIT

case $2 in
networkd)
  mkdir -p "$units/multi-user.target.wants"
  ln -sf /lib/systemd/system/systemd-networkd.service "$units/multi-user.target.wants/systemd-networkd.service"
  ;;
NetworkManager)
  mask systemd-networkd.service systemd-networkd.socket NetworkManager-wait-online.service
  # NetworkManager leaves a veth alone unless udev says otherwise.
  mkdir -p "$root/etc/udev/rules.d"
  printf 'ACTION!="remove", SUBSYSTEM=="net", ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="0"\n' \
    >"$root/etc/udev/rules.d/99-guest.rules"
  ;;
esac

sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
# Empty: each guest finds one of its own.
: >"$root/etc/machine-id"
