#!/bin/sh
# Builds the images kindler-api:test and kindler-daemon:test from a binary and the programs of this
# machine, as close to deploy/docker/Dockerfile as is possible where no image can be pulled:
#     kindler_images.sh BINARY
# The binary is linked dynamically, so its libraries are added; k3d and kind are the stand-ins.
set -eu

binary=$1
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/kindler-images.XXXXXX")
trap 'rm -rf "$work"' EXIT

# add FILE TARGET: copies a program with the libraries that it needs.
add() {
    install -D -m 755 "$1" "$root$2"
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
    done
}

# folders: what both images have besides their programs.
folders() {
    install -D /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    install -d -m 1777 "$root/tmp"
    install -d -m 0750 -o 65532 -g 65532 "$root/var/lib/kindler"
}

# image NAME ENTRYPOINT CMD: imports $root with the settings of the Dockerfile.
image() {
    tar -C "$root" -c . | docker import \
        --change 'USER 65532:65532' \
        --change 'ENV KINDLER_LISTEN=0.0.0.0:8080' \
        --change 'ENV KINDLER_STATE_DIR=/var/lib/kindler' \
        --change 'ENV HOME=/var/lib/kindler' \
        --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' \
        --change 'WORKDIR /var/lib/kindler' \
        --change 'VOLUME /var/lib/kindler' \
        --change 'EXPOSE 8080' \
        --change "ENTRYPOINT $2" --change "CMD $3" - "$1" >/dev/null
}

strip -o "$work/kindler" "$binary"

# From scratch: no shell.
root=$work/api
folders
add "$work/kindler" /usr/bin/kindler
image kindler-api:test '["/usr/bin/kindler"]' '["serve", "--api-only"]'

root=$work/daemon
folders
add "$work/kindler" /usr/bin/kindler
for program in awk base64 bash cat cp dirname docker grep ls mkdir mktemp openssl paste rm sed sh sleep \
    sort tar tini; do
    path=$(command -v "$program")
    add "$(readlink -f "$path")" "/usr/bin/$program"
done
install -d "$root/etc/ssl" "$root/usr/lib/ssl"
cp /etc/ssl/openssl.cnf "$root/etc/ssl/openssl.cnf"
ln -s /etc/ssl/openssl.cnf "$root/usr/lib/ssl/openssl.cnf"
ln -s usr/bin "$root/bin"
install -D -m 755 "$here/bin/k3d" "$root/usr/local/bin/k3d"
install -D -m 755 "$here/bin/kind" "$root/usr/local/bin/kind"
install -D -m 644 "$here/bin/pki.sh" "$root/usr/local/bin/pki.sh"
# Guards become the parents of orphaned processes of commands; tini reaps those of guards.
image kindler-daemon:test '["/usr/bin/tini", "--", "/usr/bin/kindler"]' '["serve"]'
