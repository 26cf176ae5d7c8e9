#!/bin/sh
# Builds the image of the stand-in nodes from programs of this machine, because no image can be
# pulled where the tests run:
#     image.sh FOLDER
# nginx stands in for an API server (TLS, client certificates, /readyz, nodes, objects that are
# applied and read), haproxy for k3d's load balancer, a script for containerd's ctr.
set -eu

root=$1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p "$root/bin" "$root/etc" "$root/www" "$root/run" "$root/tmp" "$root/var/lib/nginx" \
    "$root/var/log/nginx" "$root/cgi/cgi-bin"

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
for name in sh sleep cat mv mkdir rm sed tar httpd dirname basename grep; do ln -sf busybox "$root/bin/$name"; done
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
        # An object is the file OBJECTS/PATH.json, with what was applied last.
        location / {
            error_page 418 = @apply;
            if ($request_method = PATCH) { return 418; }
            try_files /objects$uri.json =404;
        }
        location @apply {
            proxy_method POST;
            proxy_pass http://127.0.0.1:8001/cgi-bin/apply?path=$uri&$args;
        }
    }
}
EOF
# Server-side apply, as kube-apiserver does it for one field manager: staging/src/k8s.io/apiserver,
# pkg/endpoints/handlers/patch.go (the type, the manager) and installer.go (201 for a new object).
cat >"$root/cgi/cgi-bin/apply" <<'EOF'
#!/bin/sh
answer() {
    printf 'Status: %s\r\nContent-Type: application/json\r\n\r\n' "$1"
    printf '{"kind":"Status","message":"%s"}' "$2"
    exit 0
}
path=${QUERY_STRING#path=}
options=${path#*&}
path=${path%%&*}
[ "$CONTENT_TYPE" = application/apply-patch+yaml ] || answer '415 Unsupported' "type $CONTENT_TYPE"
case $options in fieldManager=?*) ;; *) answer '422 Invalid' 'fieldManager is required' ;; esac
[ ! -e /www/rejects ] || answer '403 Forbidden' "$(cat /www/rejects)"
body=$(cat)
printf '%s' "$body" | grep -q "\"name\":\"$(basename "$path")\"" ||
    answer '400 Bad Request' 'the name of the object does not match the name on the URL'
case $path in
    */namespaces/*/*)
        namespace=${path#*/namespaces/}
        [ -e "/www/objects/api/v1/namespaces/${namespace%%/*}.json" ] ||
            answer '404 Not Found' "namespaces \\\"${namespace%%/*}\\\" not found" ;;
esac
status='201 Created'
[ ! -e "/www/objects$path.json" ] || status='200 OK'
mkdir -p "$(dirname "/www/objects$path")"
printf '%s' "$body" >"/www/objects$path.part"
mv "/www/objects$path.part" "/www/objects$path.json"
printf 'Status: %s\r\nContent-Type: application/json\r\n\r\n%s' "$status" "$body"
EOF
# The pods of the ingress controller, which no kubelet makes here.
mkdir -p "$root/www/objects/api/v1/namespaces/traefik"
cat >"$root/www/objects/api/v1/namespaces/traefik/pods.json" <<'EOF'
{"items":[{"metadata":{"name":"traefik-1"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}
EOF
# containerd: the names of imported images, from the manifest of a `docker save`.
cat >"$root/bin/ctr" <<'EOF'
#!/bin/sh
[ "$1 $2 $3" = '--namespace k8s.io images' ] || exit 1
case $4 in
    list) cat /images 2>/dev/null || true ;;
    import)
        mkdir -p /tmp/import
        tar -xf - -C /tmp/import || exit 1
        grep -o '"RepoTags":\["[^]]*"' /tmp/import/manifest.json |
            sed 's/^"RepoTags":\["//; s/"$//; s/","/\n/g' | while read -r name; do
            case $name in
                */*) printf 'docker.io/%s\n' "$name" ;;
                *) printf 'docker.io/library/%s\n' "$name" ;;
            esac
        done >>/images
        rm -rf /tmp/import ;;
    *) exit 1 ;;
esac
EOF
chmod 755 "$root/bin/ctr" "$root/cgi/cgi-bin/apply"
cat >"$root/server" <<'EOF'
#!/bin/sh
httpd -p 127.0.0.1:8001 -h /cgi
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
# An image for nodes.
mkdir "$root/empty"
tar -C "$root/empty" -c . | docker import - kindler-preload:1 >/dev/null
