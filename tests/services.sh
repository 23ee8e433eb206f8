#!/bin/sh
# What the tests need beside Python packages. PostgreSQL comes with a wheel and is started by the tests themselves;
# Chromium, Dovecot and Redis come from the machine, and are installed where that is allowed. What is missing is said loudly:
# the tests that need it are skipped, or fail with REQUIRE_SERVICES=1.
set -u

there() {
    for name in "$@"; do
        command -v "$name" >/dev/null 2>&1 && return 0
        [ -x "/usr/sbin/$name" ] && return 0
    done
    return 1
}

get() { # package
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    echo "tests: installing $1"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"; } >/dev/null 2>&1
}

missing() { # what, which tests
    echo "****************************************************************" >&2
    echo "*  tests: no $1 here and none could be installed:" >&2
    echo "*  the $2 will be SKIPPED" >&2
    echo "****************************************************************" >&2
    [ "${REQUIRE_SERVICES:-}" = 1 ] && exit 1
}

there chromium chromium-browser google-chrome || get chromium || missing Chromium "browser tests"
there redis-server || get redis-server || missing Redis "tests of several processes over Redis"
there dovecot || get dovecot-imapd || missing Dovecot "mailbox tests"
exit 0
