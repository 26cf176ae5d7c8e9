#!/bin/sh
# Runs a command with the real docker, k3d and kind of this machine:
#     with_docker.sh COMMAND [ARGUMENT ...]
# The tests leave clusters behind, which are deleted afterwards; so it refuses a machine that has
# clusters of its own.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
export DOCKER_HOST
for tool in docker k3d kind; do
    command -v "$tool" >/dev/null || { echo "$tool is not found" >&2; exit 1; }
done

nodes() {
    docker ps -aq --filter label=app=k3d
    docker ps -aq --filter label=io.x-k8s.kind.cluster
}
if [ -n "$(nodes)" ]; then
    echo 'this engine has k3d or kind clusters: the tests would delete them' >&2
    exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/kindler-docker.XXXXXX")
end() {
    nodes | xargs -r docker rm -f -v >/dev/null
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

KINDLER_TEST_ENGINE=$DOCKER_HOST
KINDLER_TEST_TOOLS=$here/real
# Real clusters take tens of seconds where stand-ins take one.
KINDLER_TEST_PATIENCE=${KINDLER_TEST_PATIENCE:-10}
K3D_STAND_IN_HOOKS=$work/hooks
mkdir "$K3D_STAND_IN_HOOKS"
PATH=$here/real:$PATH
export KINDLER_TEST_ENGINE KINDLER_TEST_TOOLS KINDLER_TEST_PATIENCE K3D_STAND_IN_HOOKS PATH
"$@"
