#!/bin/bash
# netplan matches a NIC by its permanent MAC, which a veth does not have. The real generator writes, and this then asks for
# the MAC that the NIC has now.
(exec -a "$0" /usr/libexec/netplan/generate.real "$@")
code=$?
# A file that is as it should be keeps its inode: whoever checks something in another root touches nothing in this one.
grep -lsZ '^PermanentMACAddress=' /run/systemd/network/*netplan-*.{link,network} |
  xargs --null --no-run-if-empty sed -i 's/^PermanentMACAddress=/MACAddress=/'
exit $code
