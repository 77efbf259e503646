#!/usr/bin/env bash
# Puts a bundle (`make bundle`) on this machine, as root; deploy.sh sends and runs it.
#
# Each release has a folder of its own under /opt/gateway/releases: its virtual environment and
# its files of /etc. /opt/gateway/venv points at the one in use, and /opt/gateway/previous at
# the one before. Whatever is as it should be is left alone, so that running it twice changes
# nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=/opt/gateway
releases=$home/releases
caddy_site=/etc/caddy/gateway.caddyfile
alloy_list=/etc/apt/sources.list.d/grafana.list
keep=3

dry_run=0 rollback=0 embedded=0 ollama='' domain='' alloy=0 url=http://127.0.0.1:8000 seconds=60
while [ $# -gt 0 ]; do
  case $1 in
  --dry-run) dry_run=1 ;;
  --rollback) rollback=1 ;;
  --embedded) embedded=1 ;;
  --alloy) alloy=1 ;;
  --ollama) ollama=$2 && shift ;;
  --domain) domain=$2 && shift ;;
  --url) url=$2 && shift ;;
  --seconds) seconds=$2 && shift ;;
  *) echo "on-host.sh: unknown option $1" >&2 && exit 64 ;;
  esac
  shift
done

changes=0
# An operator may have done without the socket: enabling the service would bring it back.
socket_before=$(systemctl is-enabled gateway.socket 2>/dev/null || true)

die() {
  printf 'deploy: %s\n' "$1" >&2
  exit 1
}

step() { # what, command… – told, and done unless this is a dry run
  changes=$((changes + 1))
  printf '%s %s\n' "$([ $dry_run = 1 ] && echo 'would:' || echo '==>')" "$1"
  [ $dry_run = 1 ] || "${@:2}"
}

has_package() {
  dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

packages() {
  local missing=()
  for package in "$@"; do has_package "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] || step "install ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

same() { # source, target: content and mode
  [ -e "$2" ] && cmp -s "$1" "$2" && [ "$(stat -c %a "$1")" = "$(stat -c %a "$2")" ]
}

put() { # source, target – true if it had to be changed
  same "$1" "$2" && return 1
  step "write $2" install -D -m "$(stat -c %a "$1")" "$1" "$2"
}

# --- The gateway ------------------------------------------------------------------------

current_release() { # its folder, or nothing
  [ ! -L $home/venv ] || dirname "$(readlink -f $home/venv)"
}

make_user() {
  if ! getent passwd gateway >/dev/null; then
    step "make the user gateway" systemd-sysusers "$1/files/etc/sysusers.d/gateway.conf"
  fi
}

find_python() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "Python 3.11 or newer is needed: Debian 12, Ubuntu 24.04 or later have one."
}

install_release() { # folder
  local pip="$1/venv/bin/python -m pip --quiet --disable-pip-version-check --no-input install"
  rm -rf "$1"
  install -d -m 0755 $home $releases "$1"
  cp -r "$here/files" "$here/locks" "$here/wheels" "$1/"
  python3 -m venv "$1/venv"
  # Wheels alone, each by its hash; those that came along are ours.
  $pip --no-deps --no-index "$1"/wheels/*.whl
  $pip --only-binary :all: --require-hashes --requirement "$1/locks/gateway.txt"
  if [ $embedded = 1 ]; then
    $pip --only-binary :all: --require-hashes --no-deps --requirement "$1/locks/embedded.txt"
  fi
  tell_shells "$1/venv/bin/python" "$1/files/usr/local/share"
  touch "$1/.complete"
}

tell_shells() { # python, folder – the manual and the completions, as the release itself has them
  install -d -m 0755 "$2/man/man1" "$2/bash-completion/completions" "$2/zsh/site-functions" \
    "$2/fish/vendor_completions.d"
  "$1" -Im gateway manual >"$2/man/man1/gateway.1"
  "$1" -Im gateway completion bash >"$2/bash-completion/completions/gateway"
  "$1" -Im gateway completion zsh >"$2/zsh/site-functions/_gateway"
  "$1" -Im gateway completion fish >"$2/fish/vendor_completions.d/gateway.fish"
}

adopt() { # what `make install` has made becomes a release, so that it can be gone back to
  install -d -m 0755 $releases/made-by-hand/files/etc/systemd
  cp -r /etc/systemd/system "$releases/made-by-hand/files/etc/systemd/.all"
  install -d -m 0755 $releases/made-by-hand/files/etc/systemd/system
  cp $releases/made-by-hand/files/etc/systemd/.all/gateway.* \
    $releases/made-by-hand/files/etc/systemd/system/
  rm -r $releases/made-by-hand/files/etc/systemd/.all
  mv $home/venv $releases/made-by-hand/venv
  point_at $releases/made-by-hand
  touch $releases/made-by-hand/.complete
}

point() { # link, target – in one step
  ln -sfn "$2" "$1.new"
  mv -T "$1.new" "$1"
}

point_at() { # release
  point $home/venv "$1/venv"
}

put_files() { # release – its units, and a configuration where there is none; 1 if all was there
  local changed=1 from=$1/files file target
  [ -d "$from" ] || from=$here/files # a dry run has made no release
  while read -r file; do
    target=${file#"$from"}
    case $target in
    /etc/gateway/gateway.toml)
      if [ ! -e "$target" ]; then
        step "write $target" install -D -m 0640 -o root -g gateway "$file" "$target"
      fi
      ;;
    *) if put "$file" "$target"; then changed=0; fi ;;
    esac
  done < <(find "$from" -type f | sort)
  return $changed
}

answers() { # path – whether it says 200
  python3 - "$url$1" <<'PYTHON'
import http.client, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
try:
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    connection.request("GET", url.path)
    sys.exit(connection.getresponse().status != 200)
except OSError:
    sys.exit(1)
PYTHON
}

wait_for() { # path
  local began=$SECONDS
  until answers "$1"; do
    [ $((SECONDS - began)) -lt "$seconds" ] || return 1
    ! systemctl is-failed --quiet gateway.service || return 1
    sleep 0.5
  done
}

restart() {
  systemctl daemon-reload
  systemctl --quiet enable gateway.service
  # With the socket unit, who connects meanwhile waits instead of being refused.
  if [ "$socket_before" = disabled ]; then
    systemctl --quiet disable gateway.socket
  elif [ -e /etc/systemd/system/gateway.socket ]; then
    systemctl --quiet enable gateway.socket
    systemctl is-active --quiet gateway.socket ||
      { systemctl stop gateway.service && systemctl start gateway.socket; }
  fi
  systemctl reset-failed gateway.service # what failed too often would not be started
  systemctl restart gateway.service
}

switch_to() { # release – true if it serves then as well as the one before did
  local proof=/health
  ! answers /ready || proof=/ready
  [ "$(current_release)" = "$1" ] || step "use $(basename "$1")" point_at "$1"
  [ "$(readlink /usr/local/bin/gateway)" = $home/venv/bin/gateway ] ||
    step "link /usr/local/bin/gateway" point /usr/local/bin/gateway $home/venv/bin/gateway
  put_files "$1" || true
  step "restart gateway.service" restart || return 1
  [ $dry_run = 1 ] || wait_for $proof ||
    { echo "deploy: $url$proof does not answer 200" >&2 && return 1; }
}

tell_failure() {
  journalctl --unit gateway.service --lines 20 --no-pager --output cat >&2 || true
}

go_back() {
  local now before
  now=$(current_release)
  before=$(readlink -f $home/previous) || die "there is no release to go back to"
  [ -e "$before/.complete" ] || die "there is no release to go back to"
  switch_to "$before" || { tell_failure && die "the release before does not serve either"; }
  [ $dry_run = 1 ] || { [ -z "$now" ] || point $home/previous "$now"; }
}

deploy() {
  local id release before
  id=$(cat "$here/release")
  [ $embedded = 0 ] || id=$id-embedded
  release=$releases/$id
  find_python
  packages python3-venv
  [ $embedded = 0 ] || packages libgomp1
  make_user "$here"
  if [ -d $home/venv ] && [ ! -L $home/venv ]; then
    step "keep what 'make install' made as a release" adopt
  fi
  before=$(current_release)
  if [ ! -e "$release/.complete" ]; then
    step "install release $id into $release" install_release "$release"
  fi
  if [ "$before" = "$release" ]; then
    # What somebody has changed by hand is put right, and what has failed gets another start.
    if put_files "$release" || ! answers /health; then
      switch_to "$release" || { tell_failure && die "release $id does not serve"; }
    fi
  elif ! switch_to "$release"; then
    tell_failure
    [ -n "$before" ] || die "release $id does not serve, and there is none to go back to"
    echo "deploy: release $id does not serve; going back to $(basename "$before")" >&2
    switch_to "$before" || die "nor does $(basename "$before"): see journalctl -u gateway"
    exit 1
  elif [ -n "$before" ] && [ $dry_run = 0 ]; then
    point $home/previous "$before"
  fi
  forget_old "$release"
}

forget_old() { # release in use – keeps it, the one before and the newest
  local before folder
  before=$(readlink -f $home/previous || true)
  [ -d $releases ] || return 0
  while read -r folder; do
    case $folder in "$1" | "$before") continue ;; esac
    step "remove release $(basename "$folder")" rm -rf "$folder"
  done < <(find $releases -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' |
    sort -rn | tail -n +$((keep + 1)) | cut -d ' ' -f 2-)
}

# --- What stands beside it --------------------------------------------------------------

set_up_ollama() {
  if ! command -v ollama >/dev/null; then
    step "install Ollama $ollama by its own installer" install_ollama
  fi
  if put "$here/extras/ollama.conf" /etc/systemd/system/ollama.service.d/gateway.conf; then
    step "restart ollama.service" sh -c 'systemctl daemon-reload && systemctl restart ollama.service'
  fi
}

install_ollama() {
  local script
  script=$(mktemp)
  curl --fail --silent --show-error --location --output "$script" https://ollama.com/install.sh
  OLLAMA_VERSION=$ollama sh "$script"
  rm "$script"
}

set_up_caddy() {
  packages caddy
  local drop_in=/etc/systemd/system/caddy.service.d/gateway.conf wanted changed=0
  wanted=$(mktemp)
  chmod 0644 "$wanted" # mktemp's 0600 would be copied too
  printf '[Service]\nEnvironment=GATEWAY_DOMAIN=%s GATEWAY_UPSTREAM=%s\n' \
    "$domain" "${url#http://}" >"$wanted"
  ! put "$wanted" $drop_in || changed=1
  rm "$wanted"
  ! put "$here/extras/Caddyfile" $caddy_site || changed=1
  if ! grep -qsx "import $caddy_site" /etc/caddy/Caddyfile; then
    step "import $caddy_site into /etc/caddy/Caddyfile" import_site && changed=1
  fi
  [ $changed = 0 ] || step "restart caddy.service" restart_caddy
}

import_site() {
  # The welcome page of the package goes; what an operator has written stays.
  if dpkg --verify caddy | grep -q '/etc/caddy/Caddyfile$'; then
    printf '\nimport %s\n' $caddy_site >>/etc/caddy/Caddyfile
  else
    printf 'import %s\n' $caddy_site >/etc/caddy/Caddyfile
  fi
}

restart_caddy() {
  GATEWAY_DOMAIN=$domain caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile >/dev/null 2>&1 ||
    die "caddy refuses /etc/caddy/Caddyfile: GATEWAY_DOMAIN=$domain caddy validate --config /etc/caddy/Caddyfile"
  systemctl daemon-reload
  systemctl --quiet enable caddy.service
  systemctl restart caddy.service
}

set_up_alloy() {
  local changed=0
  if ! has_package alloy; then
    [ -e $alloy_list ] || step "add Grafana's package source" add_grafana
    packages alloy
  fi
  if ! id -nG alloy 2>/dev/null | grep -qw systemd-journal; then
    step "let alloy read the journal" usermod -aG systemd-journal alloy && changed=1
  fi
  ! put "$here/extras/config.alloy" /etc/alloy/config.alloy || changed=1
  if ! grep -qs '^PROMETHEUS_URL=' /etc/default/alloy; then
    echo "Alloy is not started: where to send what is to stand in /etc/default/alloy," \
      "see the top of /etc/alloy/config.alloy"
  elif [ $changed = 1 ] || ! systemctl is-active --quiet alloy.service; then
    step "restart alloy.service" sh -c 'systemctl --quiet enable alloy && systemctl restart alloy'
  fi
}

add_grafana() {
  install -d -m 0755 /etc/apt/keyrings
  curl --fail --silent --show-error --location --output /etc/apt/keyrings/grafana.asc \
    https://apt.grafana.com/gpg.key
  echo 'deb [signed-by=/etc/apt/keyrings/grafana.asc] https://apt.grafana.com stable main' >$alloy_list
}

# --- All of it ---------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || [ $dry_run = 1 ] || die "root is needed"
if [ $rollback = 1 ]; then
  go_back
else
  [ -z "$ollama" ] || set_up_ollama
  deploy
  [ -z "$domain" ] || set_up_caddy
  [ $alloy = 0 ] || set_up_alloy
fi

if [ $changes = 0 ]; then
  echo "Nothing to change: $(basename "$(current_release)") is in use."
elif [ $dry_run = 1 ]; then
  echo "Nothing was changed: $changes steps would be taken."
elif seconds=10 wait_for /ready; then
  echo "Done: $(basename "$(current_release)") is in use and ready."
else
  echo "Done: $(basename "$(current_release)") is in use, and not ready yet: curl $url/ready says why."
fi
