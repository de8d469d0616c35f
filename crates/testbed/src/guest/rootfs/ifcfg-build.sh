#!/bin/sh
# Builds Debian's own NetworkManager with the plugin for ifcfg files, which RHEL has and Debian leaves out. mmdebstrap runs
# this when the packages that it takes are in place: ifcfg-build.sh ROOT
# The daemon comes along: it exports to its plugins what these ask for, and Debian's was not asked for this one.
set -eu
root=$1
mkdir "$root/build"
(cd "$root/build" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet=2 source --download-only network-manager)
exec chroot "$root" sh -eu <<'SCRIPT'
cd /build
dpkg-source --no-check --extract network-manager_*.dsc source
without() { for feature; do printf -- '-D%s=false ' "$feature"; done; }
no() { for feature; do printf -- '-D%s=no ' "$feature"; done; }
# What a guest has no use for costs packages and time.
meson setup out source --prefix=/usr --sysconfdir=/etc --localstatedir=/var --libexecdir=/usr/libexec \
  --libdir="lib/$(dpkg-architecture --query DEB_HOST_MULTIARCH)" -Dcrypto=gnutls -Dreadline=none -Dqt=false \
  -Dsystemdsystemunitdir=/lib/systemd/system -Dsystemd_journal=true -Dmore_logging=false \
  -Difcfg_rh=true -Dconfig_plugins_default=ifcfg-rh,keyfile \
  $(without introspection vapi docs modem_manager ppp wifi iwd wext polkit concheck ovs nmcli nmtui nm_cloud_setup \
    bluez5_dun teamdctl selinux firewalld_zone libpsl ebpf) \
  $(no libaudit tests session_tracking dhclient dhcpcd dhcpcanon)
plugin=src/core/settings/plugins/ifcfg-rh/libnm-settings-plugin-ifcfg-rh.so
# The plugins first: which symbols they ask for is looked up in what is there.
ninja -C out $plugin
ninja -C out src/core/NetworkManager
mkdir /built
cp out/src/core/NetworkManager out/$plugin /built
SCRIPT
