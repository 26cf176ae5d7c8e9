#!/bin/sh
# Runs a command with a private container engine and the image of the stand-in nodes:
#     with_engine.sh COMMAND [ARGUMENT ...]
# The engine has its own data, socket and network, and ends with the command. It needs root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/kindler-engine.XXXXXX")
engine=

end() {
    if [ -n "$engine" ]; then
        docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1 || true
        # Their bridges would outlive the engine and take the addresses of the next one.
        docker network prune -f >/dev/null 2>&1 || true
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    # What a container had mounted would make the removal fail.
    grep -o " $work/[^ ]*" /proc/self/mounts | sort -r | while read -r path; do
        umount -l "$path" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

DOCKER_HOST=unix://$work/docker.sock
export DOCKER_HOST
dockerd --data-root "$work/data" --exec-root "$work/run" --pidfile "$work/pid" \
    --default-address-pool base=10.128.0.0/9,size=24 --host "$DOCKER_HOST" >"$work/log" 2>&1 &
engine=$!

waited=0
until docker info >/dev/null 2>&1; do
    if ! kill -0 "$engine" 2>/dev/null || [ $waited -ge 600 ]; then
        echo "the container engine does not start:" >&2
        tail -20 "$work/log" >&2
        exit 1
    fi
    sleep 0.1
    waited=$((waited + 1))
done
sh "$here/image.sh" "$work/image"

KINDLER_TEST_ENGINE=$DOCKER_HOST
# What the stand-ins run at the start of the create of a cluster; commands get K3D_*.
K3D_STAND_IN_HOOKS=$work/hooks
mkdir "$K3D_STAND_IN_HOOKS"
PATH=$here/bin:$PATH
export KINDLER_TEST_ENGINE K3D_STAND_IN_HOOKS PATH
"$@"
