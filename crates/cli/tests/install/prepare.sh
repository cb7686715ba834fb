# Prepares the clean machine: sh prepare.sh ROOT PACKAGE…, where the packages are to be in apt's cache.
set -eu
root=$1
shift

cat > "$root/etc/apt/apt.conf.d/90test" <<'EOF'
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
Acquire::Retries "0";
EOF
# Nothing here has to survive a power loss.
echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/test"
# They would act on the host's kernel, or on terminals that are not there.
for unit in systemd-sysctl systemd-modules-load console-getty; do
    ln -s /dev/null "$root/etc/systemd/system/$unit.service"
done

# The forge: a user with repositories, who accepts the deploy key that the guide makes.
chroot "$root" useradd --create-home --shell /bin/sh git
cat > "$root/etc/ssh/sshd_config.d/forge.conf" <<'EOF'
Match User git
    AuthorizedKeysFile /etc/edgewright/plant-os.key.pub
EOF

# The operator's own machine: a user who may log in as root by ssh.
chroot "$root" useradd --create-home --shell /bin/bash alice
chroot "$root" su alice -c 'mkdir -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519'
mkdir -p -m 700 "$root/root/.ssh"
cp "$root/home/alice/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
echo 'StrictHostKeyChecking accept-new' > "$root/etc/ssh/ssh_config.d/test.conf"

chroot "$root" apt-get update -qq
chroot "$root" apt-get install -qq --download-only "$@" > /dev/null
