#!/bin/sh
# Builds the image of the stand-in nodes from programs of this machine, because no image can be
# pulled where the tests run:
#     image.sh FOLDER
# nginx stands in for an API server (TLS, client certificates, /readyz, nodes), haproxy for k3d's
# load balancer.
set -eu

root=$1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p "$root/bin" "$root/etc" "$root/www" "$root/run" "$root/tmp" "$root/var/lib/nginx" \
    "$root/var/log/nginx"

# Copies a program with the libraries that it needs.
add() {
    program=$(command -v "$1")
    install -D -m 755 "$program" "$root$program"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
    done
}
add nginx
add haproxy
install -m 755 "$(command -v busybox)" "$root/bin/busybox"
for name in sh sleep cat mv; do ln -sf busybox "$root/bin/$name"; done
printf 'root:x:0:0::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"

printf 'ok' >"$root/www/readyz"
cat >"$root/www/nodes.json" <<'EOF'
{"kind":"NodeList","items":[{"metadata":{"name":"server-0"},"status":{"conditions":
[{"type":"Ready","status":"True","reason":"KubeletReady","message":"kubelet is posting ready status"}]}}]}
EOF
cat >"$root/etc/api.conf" <<'EOF'
daemon off;
user root root;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    default_type application/json;
    server {
        listen 6443 ssl;
        ssl_certificate /pki/server.crt;
        ssl_certificate_key /pki/server.key;
        ssl_client_certificate /pki/ca.crt;
        ssl_verify_client on;
        root /www;
        location = /readyz { try_files /readyz =500; }
        location = /api/v1/nodes { try_files /nodes.json =500; }
    }
}
EOF
cat >"$root/server" <<'EOF'
#!/bin/sh
exec nginx -c /etc/api.conf
EOF
cat >"$root/balancer" <<'EOF'
#!/bin/sh
# Only a create writes its configuration; without it k3d's own waits for ever too.
while [ ! -e /etc/balancer.cfg ]; do sleep 0.1; done
exec haproxy -f /etc/balancer.cfg
EOF
chmod 755 "$root/server" "$root/balancer"
tar -C "$root" -c . | docker import --change 'ENV PATH=/bin:/usr/sbin:/usr/bin:/sbin' - \
    kindler-stand-in:1 >/dev/null
