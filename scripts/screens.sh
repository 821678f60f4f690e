#!/usr/bin/env bash
# Writes what commands of sealift show on a terminal of 80 and of 120 columns, as Markdown on stdout: docs/screens.md.
#
#   scripts/screens.sh [--cluster CLUSTERFILE] > docs/screens.md
#
#   --cluster CLUSTERFILE   also check, plan, run, status and reset of this cluster: its hosts are changed and reset
#
#   SEALIFT=PATH            the program (default: sealift in PATH)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/common.sh"

clusterfile=
while [ $# -gt 0 ]; do
  case $1 in
    --cluster) clusterfile=$(realpath "$2"); shift 2 ;;
    -h | --help) usage "$0"; exit ;;
    *) die "unknown option $1" ;;
  esac
done

need tmux curl
work=$(mktemp -d)
socket=screens-$$
server=
# leave: ends what this script started.
leave() {
  tmux -L "$socket" kill-server 2> /dev/null || true
  [ -z "$server" ] || kill "$server" 2> /dev/null || true
  rm -rf "$work"
}
trap leave EXIT

mkdir "$work/bin"
ln -s "$(realpath "$(command -v "${SEALIFT:-sealift}")")" "$work/bin/sealift"
export PATH="$work/bin:$PATH" SEALIFT_STORE="$work/store"
[ -n "$clusterfile" ] || export SEALIFT_HOME="$work/home"

# screen COLUMNS COMMAND: runs a command in a terminal; prints what it shows at its end, and before that the last screen with bars.
screen() {
  local columns=$1 command=$2 during='' now
  tmux -L "$socket" -f /dev/null new-session -d -s shot -x "$columns" -y 200 -c "$work" \
    "printf '\$ %s\n' ${command@Q}; $command; printf '%s' \$? > $work/status; sleep 1000"
  rm -f "$work/status"
  until [ -e "$work/status" ]; do
    now=$(tmux -L "$socket" capture-pane -p -t shot)
    if grep -q '\[=' <<< "$now"; then during=$now; fi
    sleep 0.05
  done
  now=$(tmux -L "$socket" capture-pane -p -t shot)
  tmux -L "$socket" kill-session -t shot
  printf '```text\n'
  if [ -n "$during" ]; then printf '%s\n   …\n' "$(trimmed <<< "$during")"; fi
  printf '%s\n```\n\n' "$(trimmed <<< "$now")"
}

# trimmed: without blank lines at the end and what differs from run to run.
trimmed() { sed -e "s|$work|/tmp/work|g; s/[[:space:]]*$//" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'; }

# both COMMAND [BETWEEN]: a command at 80 and at 120 columns; BETWEEN makes the second one do the same as the first.
both() {
  printf '## %s\n\n' "${1%% -f *}"
  screen 80 "$1"
  [ -z "${2:-}" ] || eval "$2" > /dev/null 2>&1
  screen 120 "$1"
}

# build_context: a Kubefile with 64 MiB that do not compress.
build_context() {
  mkdir -p "$work/shop/host/opt/shop" "$work/shop/manifests"
  head -c 33554432 /dev/urandom > "$work/shop/host/opt/shop/a"
  head -c 33554432 /dev/urandom > "$work/shop/host/opt/shop/b"
  printf 'kind: ConfigMap\napiVersion: v1\nmetadata: {name: shop}\n' > "$work/shop/manifests/shop.yaml"
  printf 'FROM scratch\nENV LOG_LEVEL=info\nCOPY host/opt/shop/a host/opt/shop/\nCOPY host/opt/shop/b host/opt/shop/\nCOPY manifests manifests/\n' \
    > "$work/shop/Kubefile"
}

# serve_registry: docker-registry on a free port of loopback.
serve_registry() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  registry=127.0.0.1:$port
  printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' "$work/registry" "$registry" \
    > "$work/registry.yml"
  "$("$here/debian-parts.sh")/usr/bin/docker-registry" serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    ! curl -sf "http://$registry/v2/" > /dev/null || return 0
    sleep 0.1
  done
  die "the registry does not answer: $(cat "$work/registry.log")"
}

build_context
serve_registry
# shellcheck disable=SC2016
printf '# Screens\n\nWhat commands show on terminals of 80 and of 120 columns. Written by `scripts/screens.sh`.\n\n'
both 'sealift --help'
both 'sealift pull --help'
both "sealift build -t $registry/team/shop:1.0 --no-cache shop"
both 'sealift images' "sealift tag $registry/team/shop:1.0 shop:1.0"
both "sealift inspect $registry/team/shop:1.0"
both "sealift push $registry/team/shop:1.0" "rm -rf '$work/registry/docker'"
both "sealift --store other pull $registry/team/shop:1.0" "rm -rf '$work/other'"
both "sealift save -o shop.tar $registry/team/shop:1.0"
both 'sealift upgrade'
both 'sealift init demo' "rm -rf '$work/demo'"
if [ -n "$clusterfile" ]; then
  unset SEALIFT_STORE
  file=${clusterfile@Q}
  both "sealift check -f $file"
  both "sealift plan -f $file"
  both "sealift run -f $file" "sealift reset --yes -f $file"
  both "sealift status -f $file"
  both "sealift reset --yes -f $file" "sealift run -f $file"
fi
