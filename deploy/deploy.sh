#!/usr/bin/env bash
# Brings the gateway to a Debian or Ubuntu machine over ssh, x86-64 or ARM64.
#
#   deploy/deploy.sh [options] [user@]host      user: root, or one who may sudo
#
#   --domain NAME     Caddy before it, with a certificate for this name
#   --ollama VERSION  Ollama of this version if there is none, with settings for 8 GB
#   --alloy           Grafana Alloy, for metrics and logs
#   --embedded        the embedded engine and its model too (about 200 MB)
#   --url URL         where the gateway answers there (http://127.0.0.1:8000)
#   --seconds N       how long a new release may take to serve (60)
#   --dry-run         tell every step, change nothing
#   --rollback        go back to the release before
#
# A release that does not serve is left at once for the one before; the exit status is then 1.
# Run it again whenever you like: it changes only what is not as it should be.
# DEPLOY_SSH names another ssh (`ssh -p 2222`, say).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "deploy/deploy.sh"
}

options=() host=''
while [ $# -gt 0 ]; do
  case $1 in
  --help | -h) usage && exit 0 ;;
  --dry-run | --rollback | --alloy | --embedded) options+=("$1") ;;
  --domain | --ollama | --url | --seconds)
    [ $# -gt 1 ] || { echo "deploy.sh: $1 needs a value" >&2 && exit 64; }
    options+=("$1" "$2") && shift
    ;;
  -*) { echo "deploy.sh: there is no $1; see deploy/deploy.sh --help" >&2 && exit 64; } ;;
  *)
    [ -z "$host" ] || { echo "deploy.sh: one host at a time" >&2 && exit 64; }
    host=$1
    ;;
  esac
  shift
done
[ -n "$host" ] || { usage >&2 && exit 64; }

${MAKE:-make} --no-print-directory bundle

# Values are checked by nobody on the way, so each is quoted for the shell over there.
quoted=''
[ ${#options[@]} = 0 ] || quoted=$(printf ' %q' "${options[@]}")
# shellcheck disable=SC2016 # expanded over there
there='set -eu
bundle=$(mktemp -d)
trap '\''rm -rf "$bundle"'\'' EXIT
tar -x -C "$bundle"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo bash "$bundle/on-host.sh"'
read -r -a ssh <<<"${DEPLOY_SSH:-ssh}"
tar --create --owner=0 --group=0 --numeric-owner --directory dist/bundle . |
  "${ssh[@]}" "$host" "$there$quoted"
