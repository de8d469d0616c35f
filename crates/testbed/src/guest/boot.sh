# From here on in namespaces of its own (mounts, processes, network): boot.sh FOLDER LOWER NAME [argument of systemd-nspawn]...
# All that it mounts goes with its last process.
set -eu
folder=$1
lower=$2
name=$3
shift 3

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
# systemd-nspawn leaves folders there.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn

# Each guest has a control group of its own. systemd-nspawn makes others below the one that it runs in, always of the same name.
for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  [ -f "$tree/cgroup.procs" ] || continue
  mkdir -p "$tree/$name"
  echo 0 >"$tree/$name/cgroup.procs"
done

# The /sys that is mounted shows the machine's NICs; one that is mounted here, those of this network namespace.
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$folder/cgroup" /sys/fs/cgroup

exec systemd-nspawn --quiet --boot --directory="$folder/root" --machine="$name" --register=no --keep-unit \
  --capability=CAP_NET_ADMIN --link-journal=no --network-namespace-path=/proc/self/ns/net --resolv-conf=off \
  --timezone=off --console=read-only --kill-signal=SIGRTMIN+3 "$@"
