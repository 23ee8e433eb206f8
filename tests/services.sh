#!/bin/sh
# What the tests need beside Python packages. PostgreSQL comes with a wheel and is started by the tests themselves;
# Chromium comes from the machine, and is installed where that is allowed. What is missing is said loudly: the tests
# that need it are skipped, or fail with REQUIRE_SERVICES=1.
set -u

for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "tests: installing Chromium for the browser tests"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 && exit 0
fi

echo "****************************************************************" >&2
echo "*  tests: no Chromium here and none could be installed:        *" >&2
echo "*  the browser tests will be SKIPPED                           *" >&2
echo "****************************************************************" >&2
[ "${REQUIRE_SERVICES:-}" = 1 ] && exit 1
exit 0
