# Starts what makes a Kubernetes node of a guest, on the machine: kubelet.sh LEADER GROUP SCRIPT NODE ADDRESS
# It runs in the guest's namespaces, with all rights, and in a tree of control groups of its own that it may write to: the
# guest's own is the systemd tree alone.
set -eu
leader=$1
group=$2
script=$3
shift 3
for tree in /sys/fs/cgroup/*; do
  # The trees of version 1 with controllers; two names of one tree are one.
  [ -f "$tree/cgroup.procs" ] && [ ! -L "$tree" ] || continue
  for part in "$tree/$group" "$tree/$group/kubernetes"; do
    mkdir -p "$part"
    # Without these a new group of cpuset takes no process.
    for knob in cpuset.cpus cpuset.mems; do
      [ ! -f "$tree/$knob" ] || cat "$tree/$knob" >"$part/$knob"
    done
  done
  echo 0 >"$tree/$group/kubernetes/cgroup.procs"
done
exec nsenter --target="$leader" --mount --uts --ipc --net --pid -- \
  unshare --cgroup --mount --propagation private setsid sh -c "$script" sh "$@"
