#!/bin/sh
# Installs Kindler on this host, or removes it: the binary, its units, manual pages,
# completions, documents and an example of the settings.
#
#   deploy/install.sh install     copy files; also for an upgrade. Repeating it changes nothing
#   deploy/install.sh uninstall   remove what install copied; settings, state and user stay
#   deploy/install.sh purge       uninstall, and remove settings, credentials and state
#
#   PREFIX=/usr/local             the target
#   BINARY=target/release/kindler the program to install
#   DESTDIR=                      build a package there: touches nothing outside of it,
#                                 creates no user, starts no service
#
# Prints every change. Restarts running services; enables and starts no other.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
BINARY=${BINARY:-$here/../target/release/kindler}

bin=$PREFIX/bin/kindler
# systemd also reads these folders below /usr/local.
units=$PREFIX/lib/systemd/system
sysusers=$PREFIX/lib/sysusers.d/kindler.conf
tmpfiles=$PREFIX/lib/tmpfiles.d/kindler.conf
manual=$PREFIX/share/man/man1
bash=$PREFIX/share/bash-completion/completions/kindler
case $PREFIX in
/usr) zsh=$PREFIX/share/zsh/vendor-completions/_kindler ;;
*) zsh=$PREFIX/share/zsh/site-functions/_kindler ;;
esac
fish=$PREFIX/share/fish/vendor_completions.d/kindler.fish
documents=$PREFIX/share/doc/kindler
settings=/etc/kindler/kindler.toml
unit_names='kindler.service kindler-once.service kindler-once.timer kindler-api.service'

say() { printf 'install: %s\n' "$*"; }
fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

# Writes standard input to a file, atomically, if that changes it.
put() { # MODE PATH
    target=$DESTDIR$2
    mkdir -p "$(dirname "$target")"
    part=$target.part
    cat >"$part"
    chmod "$1" "$part"
    if cmp -s "$part" "$target"; then
        rm "$part"
    else
        mv "$part" "$target"
        say "$2"
    fi
}

# Succeeds on a running system, fails while a package is being built.
for_real() { [ -z "$DESTDIR" ]; }

has_systemd() { for_real && [ -d /run/systemd/system ]; }

copy() {
    [ -x "$BINARY" ] || fail "$BINARY is missing: run \`make run\` or \`cargo build --release\`, or set BINARY"
    put 755 "$bin" <"$BINARY"
    for unit in $unit_names; do
        sed "s|/usr/bin/kindler|$bin|" "$here/systemd/$unit" | put 644 "$units/$unit"
    done
    put 644 "$sysusers" <"$here/systemd/kindler.sysusers"
    put 644 "$tmpfiles" <"$here/systemd/kindler.tmpfiles"
    pages=$(mktemp -d)
    # -i: settings in the caller's environment must not change these files.
    env -i "$BINARY" man "$pages"
    for page in "$pages"/*.1; do
        gzip -9n <"$page" | put 644 "$manual/${page##*/}.gz"
    done
    rm -r "$pages"
    env -i "$BINARY" completions bash | put 644 "$bash"
    env -i "$BINARY" completions zsh | put 644 "$zsh"
    env -i "$BINARY" completions fish | put 644 "$fish"
    env -i "$BINARY" settings-example | put 644 "$documents/kindler.toml"
    for document in README.md CHANGELOG.md LICENSE sql/roles.sql sql/after_restore.sql; do
        put 644 "$documents/${document##*/}" <"$here/../$document"
    done
    # Alerts, dashboards, and the documents that they link to.
    for document in "$here"/../docs/*.md "$here"/../docs/runbooks/* "$here"/../docs/dashboards/* \
        "$here"/../dashboards/*.json "$here"/../dashboards/alerts/*.yml "$here"/../dashboards/provisioning/*; do
        put 644 "$documents/${document#"$here"/../}" <"$document"
    done
    if [ -e "$DESTDIR$settings" ]; then
        say "leaving $settings as it is; $documents/kindler.toml has all settings of this release"
    else
        env -i "$BINARY" settings-example | put 644 "$settings"
    fi
}

make_ready() {
    for_real || return 0
    if command -v systemd-sysusers >/dev/null; then
        say "creating the user kindler (systemd-sysusers)"
        systemd-sysusers "$sysusers"
        say "creating its folders (systemd-tmpfiles)"
        systemd-tmpfiles --create "$tmpfiles"
    else
        say "systemd-sysusers is missing: create the user kindler and /var/lib/kindler by hand"
    fi
    has_systemd || return 0
    systemctl daemon-reload
    for unit in kindler.service kindler-api.service; do
        if systemctl is-active --quiet "$unit"; then
            say "restarting $unit"
            # --no-block: the database may be unreachable.
            systemctl --no-block restart "$unit"
        fi
    done
}

tell_next() {
    for_real || return 0
    cat <<END
Next, once:
  1. the database's URL, readable by root only:
         install -d -m 700 /etc/credstore
         install -m 600 /dev/stdin /etc/credstore/kindler.database_url
  2. the tables: KINDLER_DATABASE_URL_FILE=/etc/credstore/kindler.database_url $bin migrate
  3. the scripts of this host in $settings (create_command, delete_command)
  4. systemctl enable --now kindler
Before an upgrade of a running daemon: step 2 with the new program, if CHANGELOG.md names a migration.
END
}

stop_services() {
    has_systemd || return 0
    for unit in $unit_names; do
        if systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            say "stopping and disabling $unit; clusters stay as they are"
            systemctl disable --now "$unit"
        fi
    done
}

take_away() {
    stop_services
    for unit in $unit_names; do
        set -- "$@" "$units/$unit"
    done
    for page in "$DESTDIR$manual"/kindler.1.gz "$DESTDIR$manual"/kindler-*.1.gz; do
        set -- "$@" "${page#"$DESTDIR"}"
    done
    for path in "$bin" "$sysusers" "$tmpfiles" "$bash" "$zsh" "$fish" "$@"; do
        if [ -e "$DESTDIR$path" ]; then
            rm "$DESTDIR$path"
            say "removed $path"
        fi
    done
    if [ -d "$DESTDIR$documents" ]; then
        rm -r "$DESTDIR$documents"
        say "removed $documents"
    fi
    if has_systemd; then systemctl daemon-reload; fi
}

purge() {
    for path in /etc/kindler /etc/default/kindler /etc/default/kindler-api \
        /etc/credstore/kindler.database_url /etc/credstore/kindler.api_database_url \
        /var/lib/kindler; do
        if [ -e "$DESTDIR$path" ]; then
            rm -r "${DESTDIR}$path"
            say "removed $path"
        fi
    done
    # Its UID may still own files elsewhere.
    say "left: the user kindler (userdel kindler), the database, the clusters"
}

if for_real && [ "$(id -u)" -ne 0 ]; then
    fail "this needs root (or a DESTDIR)"
fi
umask 022
case "${1:-}" in
install | upgrade)
    copy
    make_ready
    tell_next
    ;;
uninstall)
    take_away
    say "left: /etc/kindler, /etc/credstore/kindler.*, /var/lib/kindler and the user kindler (purge removes them)"
    ;;
purge)
    take_away
    purge
    ;;
*)
    fail "usage: $0 install|uninstall|purge (see the comment at its top)"
    ;;
esac
