#!/bin/sh
# Writes where the services are, so that nginx keeps connections to them, and anew within 2 s when their containers
# come or go. A name that is not found keeps the addresses it had; one that was never found gets a port where nobody is.
set -eu
file=/etc/nginx/conf.d/upstreams.conf
servers="auth-api:8000 ingest-api:8000 graph-api:8000 content-api:8000 publish-api:8000 keycloak:8080 minio:9000"

upstreams() {
    for server in $servers; do
        name=${server%:*} port=${server#*:}
        addresses=$(getent ahostsv4 "$name" | awk '{ print $1 }' | sort -u)
        if [ -n "$addresses" ]; then
            printf 'upstream %s {\n' "$name"
            for address in $addresses; do printf '    server %s:%s fail_timeout=2s;\n' "$address" "$port"; done
            printf '    keepalive 32;\n}\n'
        elif ! sed -n "/^upstream $name {/,/^}/p" "$file" | grep .; then
            printf 'upstream %s {\n    server 127.0.0.1:9;\n}\n' "$name"
        fi
    done
}

touch "$file"
found=$(upstreams)
echo "$found" > "$file"
while sleep 2; do
    now=$(upstreams)
    [ "$now" = "$found" ] && continue
    found=$now
    echo "$found" > "$file.new"
    mv "$file.new" "$file"
    nginx -s reload 2>/dev/null || true
done &
