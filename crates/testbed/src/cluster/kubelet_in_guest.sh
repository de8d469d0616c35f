# In the guest, in a mount namespace of its own: NODE ADDRESS PODS
set -eu
# Pods see what is mounted later, as on a node whose kubelet is a service.
mount --make-rshared /
mount -o remount,bind,rw /proc/sys
# The guest's mounts show this machine's trees from outside of the group that this is in, and runc would take those.
umount --recursive --lazy /sys/fs/cgroup
mount -t tmpfs cgroups /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
awk '$2 != 0 && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
  mkdir "/sys/fs/cgroup/$controller"
  mount -t cgroup -o "$controller" "$controller" "/sys/fs/cgroup/$controller"
done
# kubelet reads of processes that the kernel ended for want of memory there.
[ -e /dev/kmsg ] || ln -s /dev/null /dev/kmsg
echo 1 >/proc/sys/net/ipv4/ip_forward

PATH=/opt/kubernetes:/opt/cni/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
containerd --config /etc/kubernetes/containerd.toml >>/var/log/containerd.log 2>&1 &
kube-proxy --kubeconfig=/etc/kubernetes/proxy.kubeconfig --proxy-mode=nftables --cluster-cidr="$3" \
  --hostname-override="$1" --conntrack-max-per-core=0 >>/var/log/kube-proxy.log 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.kubeconfig \
  --hostname-override="$1" --node-ip="$2" >>/var/log/kubelet.log 2>&1 &
