# Makes a guest with NetworkManager one that keeps its profiles where RHEL 8 does: ifcfg-install.sh ROOT BUILT
set -eu
root=$1
built=$2
install -m 755 "$built/NetworkManager" "$root/usr/sbin/NetworkManager"
for folder in "$root"/usr/lib/*/NetworkManager/*/; do
  install -m 644 "$built/libnm-settings-plugin-ifcfg-rh.so" "$folder"
done
mkdir -p "$root/etc/sysconfig/network-scripts"
printf '[main]\nplugins=ifcfg-rh,keyfile\n' >"$root/etc/NetworkManager/conf.d/10-ifcfg.conf"
# By this a program knows what it is on.
cat >"$root/usr/lib/os-release" <<'RELEASE'
NAME="MultiNIC testbed (NetworkManager as in RHEL 8, on Debian)"
ID="rhel"
ID_LIKE="fedora"
VERSION_ID="8.10"
RELEASE
