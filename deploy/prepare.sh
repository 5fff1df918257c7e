#!/usr/bin/env bash
# Makes what docker-compose.yml asks for under deploy/secrets: an authority and the balancer's certificate (for
# localhost and "balancer"), tokens for the load, for Prometheus and for you, and Grafana's password.
# What is there already is kept. Needs openssl, and dragoman: DRAGOMAN names the command, by default the one in .venv, or
# else the image's.
#
#   deploy/prepare.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
folder=${1:-deploy/secrets}
mkdir -p "$folder"

if [[ -z "${DRAGOMAN:-}" ]]; then
    if [[ -x .venv/bin/dragoman ]]; then DRAGOMAN=.venv/bin/dragoman
    else DRAGOMAN="docker run --rm --user $(id -u):$(id -g) --volume $PWD/$folder:$PWD/$folder dragoman:0.1.0"; fi
fi

if [[ ! -e "$folder/balancer.pem" ]]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=Dragoman trial authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
        -keyout "$folder/authority.key" -out "$folder/authority.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
        -keyout "$folder/balancer.key" -out "$folder/balancer.csr" 2>/dev/null
    openssl x509 -req -in "$folder/balancer.csr" -CA "$folder/authority.pem" -CAkey "$folder/authority.key" -days 825 \
        -extfile <(printf 'subjectAltName=DNS:localhost,DNS:balancer,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n') \
        -out "$folder/balancer.crt" 2>/dev/null
    cat "$folder/balancer.crt" "$folder/balancer.key" > "$folder/balancer.pem"
    rm "$folder/balancer.csr" "$folder/balancer.crt" "$folder/balancer.key"
fi

# NAME PERMISSION: the token in NAME.token, its hash in tokens.toml.
token() {
    [[ -e "$folder/$1.token" ]] || $DRAGOMAN token "$1" --file "$folder/tokens.toml" --permission "$2" > "$folder/$1.token"
}
token you infer
token load infer
token metrics metrics

[[ -e "$folder/grafana.password" ]] || openssl rand -base64 18 > "$folder/grafana.password"

# The containers run as other users than you.
chmod 755 "$folder"
chmod 644 "$folder"/tokens.toml "$folder"/*.token "$folder"/authority.pem "$folder"/balancer.pem "$folder"/grafana.password
echo "$folder is ready: your token is in $folder/you.token, the authority to trust in $folder/authority.pem"
