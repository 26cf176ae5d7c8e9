#!/bin/sh
# Creates the passwords for the services of compose.yaml, once. Existing ones stay,
# because the database keeps the one that it was created with.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)/secrets
umask 077
mkdir -p "$folder"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder is private; the files must be readable for the users inside containers.
write() { # NAME TEXT
    printf '%s\n' "$2" >"$folder/$1.part"
    chmod 444 "$folder/$1.part"
    mv "$folder/$1.part" "$folder/$1"
    echo "secrets: wrote $folder/$1"
}

if [ -e "$folder/postgres_password" ]; then
    echo "secrets: $folder exists already; nothing changed"
else
    secret=$(password)
    write grafana_password "$(password)"
    write database_url "postgresql://kindler:$secret@postgres/kindler"
    # Last: if it exists, all exist.
    write postgres_password "$secret"
fi
