#!/bin/sh
# Runs a command once for each Postgres of package.json; KINDLER_POSTGRES_BIN names its programs.
# SERVERS names the major versions to use, such as "18"; by default all.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund
# Servers of root's tests run as another account, which may not read this folder.
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$programs"
cp -R node_modules/postgres-* "$programs"
cd "$OLDPWD"
ran=false
for server in "$programs"/postgres-*; do
    version=${server##*-}
    case " ${SERVERS:-$version} " in *" $version "*) ran=true ;; *) continue ;; esac
    # A package holds no links; this script of its own makes them.
    (cd "$server" && node scripts/hydrate-symlinks.js)
    "$server/native/bin/postgres" --version
    KINDLER_POSTGRES_BIN=$server/native/bin "$@"
done
$ran || {
    echo "on_each.sh: package.json has no Postgres of SERVERS=$SERVERS" >&2
    exit 1
}
