#!/bin/sh
# Makes the passwords that compose.yaml hands to its services, once; those that
# are there stay, because the database remembers the one that it was made with.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)/secrets
umask 077
mkdir -p "$folder"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder keeps others out; the files are read by the users inside containers.
write() { # NAME TEXT
    printf '%s\n' "$2" >"$folder/$1.part"
    chmod 444 "$folder/$1.part"
    mv "$folder/$1.part" "$folder/$1"
    echo "secrets: wrote $folder/$1"
}

if [ -e "$folder/postgres_password" ]; then
    echo "secrets: $folder is there already; nothing changed"
else
    secret=$(password)
    write grafana_password "$(password)"
    write database_url "postgresql://kindler:$secret@postgres/kindler"
    # Last: its presence says that all are there.
    write postgres_password "$secret"
fi
