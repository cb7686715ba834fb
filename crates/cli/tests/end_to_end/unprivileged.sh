# Calls a command as a user who is not root, in a mount namespace of its own: users, their ranges of IDs and the
# device of user-mode networks are made for it there, cgroups as a service with `Delegate=yes` has them.
# $1: a folder of the test; $2: the tool image; $3: the command; then its arguments.
set -e
folder=$1; tools=$2; program=$3; shift 3
id=54321
for file in passwd subuid subgid; do cp "/etc/$file" "$folder/$file"; done
echo "unprivileged:x:$id:$id::/nonexistent:/bin/sh" >> "$folder/passwd"
for file in subuid subgid; do echo "unprivileged:300000:65536" >> "$folder/$file"; done
for file in passwd subuid subgid; do mount --bind "$folder/$file" "/etc/$file"; done
mknod "$folder/tun" c 10 200 && chmod 666 "$folder/tun" && mount --bind "$folder/tun" /dev/net/tun
mkdir "$folder/tools" && mount --bind "$tools" "$folder/tools"
touch "$folder/edgewright" && mount --bind "$program" "$folder/edgewright"
chown "$id:$id" "$folder" && chown -R "$id:$id" "$folder/plants"
made=
for tree in memory pids cpu unified ''; do
  own=/sys/fs/cgroup/$tree
  [ -e "$own/cgroup.procs" ] || continue
  mkdir "$own/edgewright-unprivileged-$$" && made="$made $own/edgewright-unprivileged-$$"
  chown -R "$id:$id" "$own/edgewright-unprivileged-$$"
done
end() { for own in $made; do find "$own" -depth -type d -exec rmdir {} + || true; done; }
trap end EXIT
(
  for group in $made; do echo 0 > "$group/cgroup.procs"; done
  cd "$folder"
  exec setpriv --reuid="$id" --regid="$id" --clear-groups env -i PATH="$PATH" HOME="$folder" \
    "$folder/edgewright" "$@"
)
