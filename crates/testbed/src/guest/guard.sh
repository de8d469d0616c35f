# Runs a guest and says its first process on standard output. Ends it when the standard input ends, which happens when the
# parent does, even if it is killed: guard.sh FOLDER NAME COMMAND...
# Unless a word comes first, the folder goes too.
folder=$1
name=$2
shift 2
"$@" </dev/null >>"$folder/console" 2>&1 &
guest=$!
echo $guest
exec >/dev/null
read -r word
kill -KILL $guest 2>/dev/null
wait

# The last of its processes may take a moment.
for attempt in $(seq 200); do
  left=
  for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
    [ -d "$group" ] || continue
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    [ ! -d "$group" ] || left=yes
  done
  [ -n "$left" ] || break
  sleep 0.05
done
[ -n "$word" ] || rm -rf "$folder"
