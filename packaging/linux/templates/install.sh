#!/bin/sh
# Installs @NAME@ for the person who runs it, without root: sh install.sh
# Takes everything away again, but not sessions, results and settings: sh install.sh --remove
set -eu

program=$HOME/.local/opt/@COMMAND@
link=$HOME/.local/bin/@COMMAND@
share=${XDG_DATA_HOME:-$HOME/.local/share}
list=$program/installed-files # what was put outside of the program's folder; folders that were made end with /
list_so_far= # a temporary file while installing

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

make_folder() {
    [ -d "$1" ] && return 0
    make_folder "$(dirname "$1")"
    mkdir "$1"
    printf '%s/\n' "$1" >>"$list_so_far"
}

# One line of a desktop entry that names the program by its whole path: quoted for the line, then for the file.
exec_line() {
    printf 'Exec="%s" %%f\n' "$(printf '%s' "$program/@COMMAND@" | sed -e 's/[\\"`$]/\\&/g' -e 's/%/%%/g' -e 's/\\/\\\\/g')"
}

copy_desktop_entry() {
    while IFS= read -r line; do
        case $line in
        Exec=*) exec_line ;;
        TryExec=*) printf 'TryExec=%s\n' "$(printf '%s' "$program/@COMMAND@" | sed 's/\\/\\\\/g')" ;;
        *) printf '%s\n' "$line" ;;
        esac
    done <"$1" >"$2"
}

copy_share() {
    find share -type f | while IFS= read -r file; do
        target=$share/${file#share/}
        make_folder "$(dirname "$target")"
        case $file in
        *.desktop) copy_desktop_entry "$file" "$target" ;;
        *) cp "$file" "$target" ;;
        esac
        printf '%s\n' "$target" >>"$list_so_far"
    done
}

refresh() {
    if command -v update-desktop-database >/dev/null 2>&1 && [ -d "$share/applications" ]; then
        update-desktop-database -q "$share/applications" || true
    fi
    if command -v update-mime-database >/dev/null 2>&1 && [ -d "$share/mime/packages" ]; then
        update-mime-database "$share/mime" >/dev/null 2>&1 || true
    fi
    [ ! -d "$share/icons/hicolor" ] || touch "$share/icons/hicolor" # desktops look at its time
}

remove_files() {
    while IFS= read -r path; do
        case $path in
        */) ;;
        *) rm -f -- "$path" ;;
        esac
    done <"$list"
}

# What the system's tools made in folders that nobody else uses.
remove_caches() {
    if [ -d "$share/applications" ] && [ -z "$(find "$share/applications" -name '*.desktop' | head -n 1)" ]; then
        rm -f -- "$share/applications/mimeinfo.cache"
    fi
    if [ -d "$share/mime" ] && [ -z "$(find "$share/mime/packages" -type f 2>/dev/null | head -n 1)" ] && grep -qxF "$share/mime/" "$list"; then
        rm -rf -- "$share/mime"
    fi
}

remove() {
    [ -f "$list" ] || fail "@NAME@ is not installed in $program."
    remove_files
    refresh
    remove_caches
    folders=$(grep '/$' "$list" | sort -r)
    rm -rf -- "$program"
    printf '%s\n' "$folders" | while IFS= read -r folder; do
        [ -z "$folder" ] || rmdir -- "$folder" 2>/dev/null || true # not empty: somebody else uses it
    done
    printf '%s\n' "@NAME@ is removed. Results, add-ons and settings of yours stay in $share/@COMMAND@ and ${XDG_CONFIG_HOME:-$HOME/.config}/@COMMAND@."
}

check() {
    [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || fail "This is the program for Linux on x86_64; here is $(uname -s) on $(uname -m)."
    [ -d program ] && [ -d share ] || fail "The folders program and share must lie beside install.sh: unpack the whole archive."
    [ ! -e "$program" ] || [ -f "$list" ] || fail "$program is there, and was not made by this script. Nothing was changed."
    if [ -e "$link" ] || [ -L "$link" ]; then
        [ "$(readlink "$link" || true)" = "$program/@COMMAND@" ] || fail "$link is there, and is not ours. Nothing was changed."
    fi
}

# The program brings its own libraries, but not those that belong to the system's display.
name_what_is_missing() {
    plugin=$(find "$program/_internal" -name libqxcb.so 2>/dev/null | head -n 1)
    [ -n "$plugin" ] && command -v ldd >/dev/null 2>&1 || return 0
    missing=$(ldd "$plugin" 2>/dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/ \1/p' | sort -u | tr -d '\n')
    [ -z "$missing" ] || printf '%s\n' "The window needs libraries of your system that are not there:$missing"
}

install() {
    check
    list_so_far=$(mktemp)
    trap 'rm -f -- "$list_so_far"' EXIT
    make_folder "$(dirname "$program")"
    rm -rf -- "$program.new"
    cp -R -P -p program "$program.new"
    cp install.sh "$program.new/install.sh"
    if [ -f "$list" ]; then
        remove_files
        grep '/$' "$list" >>"$list_so_far" || true # folders that an earlier version made are still ours
        rm -rf -- "$program"
    fi
    mv "$program.new" "$program"
    make_folder "$(dirname "$link")"
    ln -sf "$program/@COMMAND@" "$link"
    printf '%s\n' "$link" >>"$list_so_far"
    copy_share
    cp "$list_so_far" "$list"
    refresh
    printf '%s\n' "@NAME@ is installed in $program. To remove it: sh \"$program/install.sh\" --remove"
    case :$PATH: in
    *:"$HOME/.local/bin":*) ;;
    *) printf '%s\n' "To start it by name put $HOME/.local/bin into PATH; in the menu it is there already." ;;
    esac
    name_what_is_missing
}

[ -n "${HOME:-}" ] || fail "HOME is not set."
cd "$(dirname "$0")"
case ${1:-} in
"") install ;;
--remove) remove ;;
*) fail "Usage: sh install.sh [--remove]" ;;
esac
