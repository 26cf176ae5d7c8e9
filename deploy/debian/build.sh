#!/bin/sh
# Builds the Debian package from a compiled binary; called by `make deb`. Needs
# dpkg-deb and gzip, not debhelper.
#
#   BINARY=target/release/kindler   the program to package
#   OUT=target/debian               the folder of the package
#   COMPRESSION=xz                  none is faster, for tests
#
# The last line of the output is the path of the package.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
project=$here/../..
BINARY=${BINARY:-$project/target/release/kindler}
OUT=${OUT:-$project/target/debian}
COMPRESSION=${COMPRESSION:-xz}

fail() {
    printf 'deb: %s\n' "$*" >&2
    exit 1
}

command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing: this needs Debian or Ubuntu"
[ -x "$BINARY" ] || fail "$BINARY is missing: run \`cargo build --release\` first"

version=$("$BINARY" --version | cut -d ' ' -f 2)
architecture=$(dpkg --print-architecture)
# The same sources produce the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$project" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -r "$root"' EXIT
chmod 755 "$root"
# To stderr: stdout is for the path.
DESTDIR=$root PREFIX=/usr BINARY=$BINARY sh "$here/../install.sh" install >&2

documents=$root/usr/share/doc/kindler
rm "$documents/LICENSE"
mkdir -p "$documents/examples"
mv "$documents/kindler.toml" "$documents/roles.sql" \
    "$documents/after_restore.sql" "$documents/examples/"
gzip -9n <"$documents/CHANGELOG.md" >"$documents/changelog.gz"
rm "$documents/CHANGELOG.md"
cp "$here/copyright" "$documents/copyright"
{
    printf 'kindler (%s-1) unstable; urgency=medium\n\n' "$version"
    printf '  * See /usr/share/doc/kindler/changelog.gz.\n\n'
    printf ' -- The authors of Kindler <noreply@kindler.invalid>  %s\n' \
        "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$documents/changelog.Debian.gz"
mkdir -p "$root/usr/share/lintian/overrides"
cp "$here/lintian-overrides" "$root/usr/share/lintian/overrides/kindler"

# The newest glibc symbol version that the binary uses is the glibc that it needs.
glibc=$(objdump -T "$BINARY" 2>/dev/null | sed -n 's/.*(\?GLIBC_\([0-9][0-9.]*\))\?.*/\1/p' | sort -Vu | tail -n 1)
mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
    cp "$here/$script" "$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
done
echo /etc/kindler/kindler.toml >"$root/DEBIAN/conffiles"
(cd "$root" && find usr etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
sed -e "s/@VERSION@/$version-1/" -e "s/@ARCHITECTURE@/$architecture/" \
    -e "s/@GLIBC@/${glibc:-2.31}/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f 1)/" \
    "$here/control" >"$root/DEBIAN/control"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/conffiles" "$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$OUT"
package=$OUT/kindler_$version-1_$architecture.deb
dpkg-deb --root-owner-group "-Z$COMPRESSION" --build "$root" "$package" >&2
printf '%s\n' "$package"
