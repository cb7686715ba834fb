#!/bin/bash
# The node: `node.sh start FOLDER CGROUP`, as root on the host. It makes a cgroup and namespaces, and becomes `node.sh enter`,
# which moves into the node's root, and becomes `node.sh init`: process 1 of the node, which starts and stops components.
#
# FOLDER/root is the node's root. What the host and the node exchange is in FOLDER/root/node:
#   control         a pipe: lines `start NAME`, `stop NAME`
#   components/     programs that may be started
#   log/ pid/ ended/  of components, by name: output, process id in the node, exit status
#   ready           exists once the node takes orders
#   alive           a pipe that process 1 holds open
# The kernel ends every process, mount and interface of the node with process 1.
#
# `node.sh attach FOLDER CGROUP PROCESS` joins the cgroup, and becomes the user-mode network of the node.
set -euo pipefail

# Mount points of cgroup hierarchies, one a line, with their kind and options.
hierarchies() {
	awk '($3 == "cgroup" || $3 == "cgroup2") && $2 ~ "^/sys/fs/cgroup" { print $2, $3, $4 }' /proc/self/mounts
}

# What of a hierarchy's mount options names it: its controllers, or its name.
naming_options() {
	local option named=
	for option in ${1//,/ }; do
		case $option in
		rw | ro | nosuid | nodev | noexec | relatime | noatime | xattr | clone_children | release_agent=*) ;;
		name=*) named=$named,none,$option ;;
		*) named=$named,$option ;;
		esac
	done
	echo "${named#,}"
}

# Closes the files of the programs above us: a node outlives them, and would hold their locks. Bash reads this file by 255.
close_files() {
	local file
	for file in /proc/$$/fd/*; do
		file=${file##*/}
		if [ "$file" -gt 2 ] && [ "$file" != 255 ]; then eval "exec $file>&-"; fi
	done
}

start() {
	local folder=$1 cgroup=$2 point kind
	close_files
	while read -r point kind _; do
		mkdir -p "$point/$cgroup"
		case $kind:$point in
		cgroup:*cpuset*)
			# A new cpuset is empty, and takes no process.
			for file in cpus mems; do cat "$point/cpuset.$file" >"$point/$cgroup/cpuset.$file"; done
			;;
		cgroup2:/sys/fs/cgroup)
			for controller in $(cat "$point/cgroup.controllers"); do
				echo "+$controller" >"$point/cgroup.subtree_control" || true
			done
			;;
		esac
		echo $$ >"$point/$cgroup/cgroup.procs"
	done < <(hierarchies)
	exec unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child --propagation private \
		bash "$0" enter "$folder"
}

enter() {
	local root=$1/root point kind options lines
	lines=$(hierarchies)
	mount --bind "$root" "$root"
	cd "$root"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount --rbind /dev dev
	if [ -d /lib/modules ]; then
		mkdir -p usr/lib/modules
		mount --bind -o ro /lib/modules usr/lib/modules
	fi
	if ! grep -q '^/sys/fs/cgroup cgroup2 ' <<<"$lines"; then
		mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
	fi
	while read -r point kind options; do
		mkdir -p ".$point"
		case $kind in
		cgroup) mount -t cgroup -o "$(naming_options "$options")" cgroup ".$point" ;;
		cgroup2) mount -t cgroup2 cgroup2 ".$point" ;;
		esac
	done <<<"$lines"
	mkdir -p host
	pivot_root . host
	exec chroot . /bin/bash /node/node.sh init
}

# What kubelet wants of the kernel is the whole machine's. It finds the values that it would set, and sets nothing.
pretend() {
	local name value
	for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
		kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
		name=${pair%=*} value=${pair#*=}
		mkdir -p "/run/sysctl/${name%/*}"
		echo "$value" >"/run/sysctl/$name"
		mount --bind "/run/sysctl/$name" "/proc/sys/$name"
	done
}

attach() {
	local folder=$1 cgroup=$2 process=$3 point kind
	close_files
	while read -r point kind _; do
		if [ "$kind:$point" = cgroup2:/sys/fs/cgroup ]; then cgroup=$cgroup/init; fi
		echo $$ >"$point/$cgroup/cgroup.procs"
	done < <(hierarchies)
	exec setsid slirp4netns --configure --mtu=65520 --exit-fd=3 "$process" tap0 3<"$folder/root/node/alive"
}

start_component() {
	(
		exec 3<&- 4<&-
		rm -f "ended/$1"
		"components/$1" >>"log/$1.log" 2>&1 </dev/null &
		echo $! >"pid/$1.new"
		mv "pid/$1.new" "pid/$1"
		wait $! && echo 0 >"ended/$1.new" || echo $? >"ended/$1.new"
		mv "ended/$1.new" "ended/$1"
	) &
}

init() {
	local verb name
	cd /node
	umount --lazy /host
	rmdir /host
	# Volumes of pods with mounts of their own are seen by others.
	mount --make-rshared /
	mount -t tmpfs -o mode=755 tmpfs /run
	mount -t tmpfs -o mode=1777 tmpfs /tmp
	mkdir -p /run/lock /run/netns /run/containerd
	pretend
	if [ -w /sys/fs/cgroup/cgroup.subtree_control ] && [ -w /sys/fs/cgroup/cgroup.procs ]; then
		# A cgroup of version 2 with processes gives no controllers to those below.
		mkdir -p /sys/fs/cgroup/init
		echo 1 >/sys/fs/cgroup/init/cgroup.procs
		for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
			echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
		done
	fi
	hostname node
	ip link set lo up
	# Both ends, so that neither process 1 nor a writer waits for the other. slirp4netns ends when the second one closes.
	exec 3<>control 4<>alive
	touch ready
	while read -r verb name <&3; do
		case $verb in
		start) start_component "$name" ;;
		stop) kill -KILL "$(cat "pid/$name")" || true ;;
		esac
	done
}

"$@"
