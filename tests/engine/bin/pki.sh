# Sourced by the stand-ins: certificates and the kubeconfig of one cluster, as k3s and kubeadm
# make them.

# pki FOLDER CONTEXT HOST: ca.crt, server.{crt,key}, client.{crt,key}.
pki() {
    folder=$1
    mkdir -p "$folder"
    key() { openssl ecparam -name prime256v1 -genkey -noout -out "$folder/$1.key" 2>/dev/null; }
    key ca
    openssl req -x509 -new -key "$folder/ca.key" -subj "/CN=$2-ca" -days 2 -out "$folder/ca.crt" \
        -addext basicConstraints=critical,CA:TRUE 2>/dev/null
    # signed NAME SUBJECT EXTENSIONS
    signed() {
        key "$1"
        openssl req -new -key "$folder/$1.key" -subj "$2" -out "$folder/$1.csr" 2>/dev/null
        printf '%s\n' "$3" >"$folder/$1.ext"
        openssl x509 -req -in "$folder/$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
            -CAcreateserial -days 2 -extfile "$folder/$1.ext" -out "$folder/$1.crt" 2>/dev/null
    }
    signed server /CN=server "subjectAltName=IP:127.0.0.1,IP:0.0.0.0,DNS:localhost,DNS:$3"
    signed client /O=system:masters/CN=admin extendedKeyUsage=clientAuth
}

# kubeconfig FOLDER CONTEXT ADDRESS: the text.
kubeconfig() {
    data() { base64 -w 0 "$1"; }
    cat <<EOF
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: $(data "$1/ca.crt")
    server: https://$3
  name: $2
contexts:
- context:
    cluster: $2
    user: admin@$2
  name: $2
current-context: $2
users:
- name: admin@$2
  user:
    client-certificate-data: $(data "$1/client.crt")
    client-key-data: $(data "$1/client.key")
EOF
}

# Runs what a test wants at the start of the create of cluster $1.
hook() {
    # shellcheck disable=SC1090
    [ ! -e "${K3D_STAND_IN_HOOKS:-/none}/$1" ] || . "$K3D_STAND_IN_HOOKS/$1"
}

# Hangs once after this phase, if a test wants it.
phase() {
    if [ "${K3D_STAND_IN_HANG:-}" = "$1" ] && rm "${K3D_STAND_IN_ONCE:-/none}" 2>/dev/null; then
        sleep 600
    fi
}
