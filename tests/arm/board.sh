#!/bin/sh
# An emulated Raspberry Pi 4 behind an sshd on 127.0.0.1. In namespaces of its own, so that mounts
# and processes end with it, however it ends:
#
#   unshare --mount --pid --fork --kill-child sh board.sh SYSROOT WORK PORT
#
# WORK has what board.py wrote: sshd_config, keys, passwd, group, shadow, machine/{proc,sys}.
# Users: pi has the sysroot's runtimes; bare has Python and nothing else.
set -eu
sysroot=$1 work=$2 port=$3

mount --make-rprivate /

# sshd's own folder, which it insists on; a chroot must lie where only root can write.
boards=/run/sshd
mkdir -p $boards
mount -t tmpfs -o mode=755 tmpfs $boards

formats=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc $formats
if ! test -e $formats/edgekit-aarch64; then
    cat "$work/binfmt" >$formats/register
fi

board() { # NAME UID
    root=$boards/$1
    mkdir "$root"
    mount --bind "$sysroot" "$root"
    mount -t proc proc "$root/proc"
    mount --bind "$work/machine/proc/cpuinfo" "$root/proc/cpuinfo"
    mount --bind "$work/machine/sys" "$root/sys"
    for file in passwd group; do mount --bind "$work/$file" "$root/etc/$file"; done
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for name in null zero full random urandom; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    mkdir "$root/dev/shm"
    for place in dev/shm tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$place"; done
    mount -t tmpfs -o mode=755 tmpfs "$root/home"
    mkdir "$root/home/$1"
    chown "$2:$2" "$root/home/$1"
}

board pi 1000
board bare 1001
for packages in "$boards"/bare/usr/local/lib/python3.*/dist-packages; do
    mount -t tmpfs -o mode=755 tmpfs "$packages"
done

# sshd's own view of who may log in: a folder, since a mount on a file ends when somebody outside
# replaces that file, as useradd does.
mkdir $boards/etc
for file in nsswitch.conf ld.so.cache localtime hosts; do
    if test -e /etc/$file; then cp -L /etc/$file $boards/etc/; fi
done
cp "$work/passwd" "$work/group" "$work/shadow" $boards/etc/
mount --bind $boards/etc /etc
# Read with the rights of the user: not from a folder of root's.
cp "$work/user_key.pub" $boards/authorized_keys
chmod 644 $boards/authorized_keys

exec "$(command -v sshd)" -D -e -p "$port" -f "$work/sshd_config"
