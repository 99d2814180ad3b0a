# For bash to source: Debian's packages, by the program that is wanted of each.

missing=()

need() {
    command -v "$1" >/dev/null || missing+=("$2")
}

# Installs what was needed and is not there.
install_missing() {
    [ ${#missing[@]} = 0 ] && return
    without_services apt_install "${missing[@]}"
    missing=()
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    # Known packages first: an index that is there need not be fetched again.
    apt-get install -y -q --no-install-recommends "$@" && return
    apt-get update -q
    apt-get install -y -q --no-install-recommends "$@"
}

# Programs are wanted, not services: the exporter as one would take the port and be one too many.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    local status=0
    "$@" || status=$?
    rm -f "$policy"
    return "$status"
}
