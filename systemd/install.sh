#!/bin/sh
# Make the mirror a service of this system, put a newer one in its place, or take it away again.
#   systemd/install.sh install
#   systemd/install.sh uninstall
#
#   /opt/mirror/venv-…        an environment of its own, with what constraints.txt pins
#   /opt/mirror/current       the one in use: a link that is replaced in one step, so that a build which fails, or
#                             a version which does not start, leaves the one before at work
#   /usr/local/bin/mirror     the command
#   /usr/local/lib/systemd/system/mirror.service
#   /etc/mirror/mirror.toml   settings: the example, where there are none; never touched again
#   /var/lib/mirror           data: made by the service, never touched here
#
# DESTDIR=folder     everything goes below it, and works there; no user is made, no service is started
# PYTHON=python3.12  the Python to use
# SYSTEMCTL=program  who starts and stops the service; also below DESTDIR then
set -eu
umask 022  # whatever root's is: the service's user has to read what is installed

action=${1:-install}
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/.ci/python"

if [ -n "${DESTDIR:-}" ]; then
    mkdir -p "$DESTDIR"
    DESTDIR=$(cd "$DESTDIR" && pwd)
fi
DESTDIR=${DESTDIR:-}
opt=$DESTDIR/opt/mirror
current=$opt/current
command=$DESTDIR/usr/local/bin/mirror
unit=$DESTDIR/usr/local/lib/systemd/system/mirror.service
etc=$DESTDIR/etc/mirror
data=$DESTDIR/var/lib/mirror
user=mirror

fail() { say "make $action: $*"; exit 1; }

# attempt WHAT COMMAND…: quietly; where it fails, one line says what failed and why.
attempt() {
    what=$1
    shift
    "$@" >"$work/log" 2>&1 || fail "$what: $(reason)"
}

# The line of the last command's output that says what went wrong.
reason() {
    { grep -i '^ *error:' "$work/log" || grep . "$work/log" || echo 'it did not say why'; } | tail -n 1 | sed 's/^ *//'
}

new=  # the environment that is being built
work=
clean_up() {
    [ -z "$new" ] || rm -rf "$new"
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

check_root() {
    [ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail "only root may do this; type: sudo make $action"
}

begin() {
    work=$(mktemp -d)
    attempt "$opt cannot be made" mkdir -p "$opt"
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$opt/.lock"
        flock -n 9 || fail "another make install or uninstall is at work"
    fi
}

# The program that starts and stops services, where there is one to be asked.
services() {
    if [ -n "${SYSTEMCTL:-}" ]; then
        echo "$SYSTEMCTL"
    elif [ -z "$DESTDIR" ]; then
        command -v systemctl || true
    fi
}
booted() { [ -n "${SYSTEMCTL:-}" ] || [ -d /run/systemd/system ]; }

# Whether the service's user reaches this Python: it sees nobody's home.
reachable() {
    [ -n "$DESTDIR" ] && return 0
    case $("$1" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))' 2>/dev/null) in
    /home/* | /root/* | /run/user/*) return 1 ;;
    esac
}

# --- install ------------------------------------------------------------------------------------------------

check_command() {
    if [ -e "$command" ] || [ -L "$command" ]; then
        case $(readlink "$command") in
        "$opt"/*) ;;
        *) fail "$command is there and not from here; move it away first" ;;
        esac
    fi
}

build() {
    python=$(need_python "$work/log" reachable) || exit 1
    say "making $opt with $("$python" --version 2>&1) …"
    new=$opt/venv-$(date +%Y%m%d-%H%M%S)-$$
    attempt "the environment cannot be made" "$python" -m venv "$new"
    # Built from a copy: a build leaves folders behind, and takes in what an older one left.
    mkdir "$work/source"
    cp -R "$here/mirror" "$here/pyproject.toml" "$here/README.md" "$here/LICENSE" "$work/source/"
    attempt "the installation failed, and what was there before is as it was" \
        "$new/bin/python" -m pip --disable-pip-version-check --no-input install \
        --constraint "$here/constraints.txt" "$work/source"
    cp "$here/systemd/mirror.service" "$new/mirror.service"
    version=$(plain "$new/bin/mirror" --version) || fail "the new version does not run; what was there before is as it was"
}

# Run without the settings of this shell.
plain() { env -i PATH="$PATH" LC_ALL=C.UTF-8 "$@"; }

# What the new version would refuse to start with is said before the old one is stopped.
check_settings() {
    [ -e "$etc/mirror.toml" ] || return 0
    code=0
    plain "$new/bin/mirror" config check --config "$etc/mirror.toml" >"$work/log" 2>&1 || code=$?
    case $code in
    0) ;;
    2) fail "the new version cannot use the settings: $(head -n 1 "$work/log" | sed 's/^mirror: //'); nothing was changed" ;;
    *) fail "the new version does not run: $(reason); nothing was changed" ;;
    esac
}

make_user() {
    [ -z "$DESTDIR" ] || return 0
    getent group "$user" >/dev/null || attempt "the group $user cannot be made" groupadd --system "$user"
    getent passwd "$user" >/dev/null || attempt "the user $user cannot be made" useradd --system --gid "$user" \
        --home-dir "$data" --no-create-home --shell /usr/sbin/nologin "$user"
}

# The service keeps its users' passwords beside the settings, and the sticky bit keeps it from replacing the settings.
make_settings() {
    if ! [ -d "$etc" ]; then
        attempt "$etc cannot be made" mkdir -p "$etc"
        [ -n "$DESTDIR" ] || attempt "$etc cannot be given to $user" chgrp "$user" "$etc"
        attempt "$etc cannot be opened to $user" chmod 1775 "$etc"
    fi
    [ -e "$etc/mirror.toml" ] && return 0
    attempt "the settings cannot be written" cp "$here/config/mirror.example.toml" "$work/mirror.toml"
    [ -n "$DESTDIR" ] || attempt "the settings cannot be given to $user" chgrp "$user" "$work/mirror.toml"
    attempt "the settings cannot be closed to others" chmod 640 "$work/mirror.toml"
    attempt "the settings cannot be written" mv "$work/mirror.toml" "$etc/mirror.toml"
}

# put_unit ENVIRONMENT: the unit that this version came with.
put_unit() {
    attempt "the unit cannot be written" install -D -m 644 "$1/mirror.service" "$unit.new"
    attempt "the unit cannot be written" mv -f "$unit.new" "$unit"
}

# point LINK TARGET: in one step.
point() {
    attempt "$1 cannot be made" mkdir -p "$(dirname "$1")"
    attempt "$1 cannot be made" ln -sfn "$2" "$1.new"
    attempt "$1 cannot be made" mv -fT "$1.new" "$1"
}

# go_live ENVIRONMENT BEFORE: start it, or start it anew where it runs. Where that fails, BEFORE is at work again.
go_live() {
    systemctl=$(services)
    [ -n "$systemctl" ] || return 0
    if ! booted; then
        attempt "the service cannot be enabled" "$systemctl" enable "$user"
        return 0
    fi
    attempt "systemd cannot read the unit" "$systemctl" daemon-reload
    if [ -z "$2" ]; then
        attempt "the service cannot be enabled" "$systemctl" enable "$user"
    elif ! "$systemctl" is-active --quiet "$user" && ! "$systemctl" is-failed --quiet "$user"; then
        return 0  # somebody stopped it
    fi
    if "$systemctl" restart "$user" >"$work/log" 2>&1; then
        return 0
    fi
    why="$(head -n 1 "$work/log") What it said: journalctl -u $user -n 20"
    [ -n "$2" ] || fail "it is installed and does not start: $why"
    put_unit "$2"
    point "$current" "$2"
    new=$1
    attempt "neither the new version starts nor the one before" "$systemctl" daemon-reload
    attempt "neither the new version starts nor the one before" "$systemctl" restart "$user"
    fail "the new version does not start, the one before runs again: $why"
}

sweep() {
    for old in "$opt"/venv-*; do
        [ "$old" = "$1" ] || rm -rf "$old"
    done
}

report() {
    echo "$version is installed: $command"
    echo "  settings  $etc/mirror.toml"
    echo "  data      $data"
    systemctl=$(services)
    if [ -z "$systemctl" ]; then
        echo "No service is started here; type: mirror serve"
    elif ! booted; then
        echo "systemd does not run now; the service starts with it. Until then type: mirror serve"
    elif "$systemctl" is-active --quiet "$user"; then
        echo "  log       journalctl -u $user"
        echo "It runs. After a change of its settings type: sudo systemctl restart $user"
        echo "Who shall use it without sudo: sudo usermod -aG $user NAME"
    else
        echo "It is stopped; type: sudo systemctl start $user"
    fi
}

install_it() {
    check_root
    begin
    check_command
    before=$(readlink "$current" || true)
    [ -d "$before" ] || before=
    build
    check_settings
    make_user
    make_settings
    put_unit "$new"
    built=$new
    point "$current" "$built"
    new=
    point "$command" "$current/bin/mirror"
    go_live "$built" "$before"
    sweep "$built"
    report
}

# --- uninstall ----------------------------------------------------------------------------------------------

uninstall_it() {
    check_root
    if ! [ -e "$opt" ] && ! [ -e "$unit" ] && ! [ -L "$command" ]; then
        echo "There is nothing to remove."
        return 0
    fi
    begin
    systemctl=$(services)
    if [ -n "$systemctl" ] && [ -e "$unit" ]; then
        if booted
        then attempt "the service cannot be stopped" "$systemctl" disable --now "$user"
        else attempt "the service cannot be disabled" "$systemctl" disable "$user"
        fi
    fi
    attempt "the unit cannot be removed" rm -f "$unit"
    if [ -n "$systemctl" ] && booted; then
        attempt "systemd cannot forget the unit" "$systemctl" daemon-reload
    fi
    case $(readlink "$command" || true) in
    "$opt"/*) attempt "$command cannot be removed" rm -f "$command" ;;
    esac
    attempt "$opt cannot be removed" rm -rf "$current" "$opt"/venv-* "$opt/.lock"
    rmdir "$opt" 2>/dev/null || say "make uninstall: $opt holds other things, and stays"
    echo "Removed. Kept, as it is yours:"
    echo "  settings  $etc"
    echo "  data      $data"
    if [ -z "$DESTDIR" ] && getent passwd "$user" >/dev/null; then
        echo "To remove these too, type: sudo rm -r $etc $data && sudo userdel $user"
    else
        echo "To remove these too, type: rm -r $etc $data"
    fi
}

case $action in
install) install_it ;;
uninstall) uninstall_it ;;
*) fail "there are install and uninstall" ;;
esac
