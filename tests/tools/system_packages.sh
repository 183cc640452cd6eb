#!/bin/sh
# Install the programs that some tests talk to or run under, where that can be done; never fails.
# On Debian each program is in the package of its name.
set -u
missing=
for program in skopeo docker-registry strace; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed:$missing. The tests that need them are skipped."
elif [ "$(id -u)" -ne 0 ]; then
    echo "Not installed:$missing. The tests that need them are skipped until you run"
    echo "  sudo apt-get install --no-install-recommends$missing"
else
    echo "Installing$missing for the tests that need them"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $missing; } \
        >/dev/null 2>&1 || echo "apt-get could not install$missing: those tests are skipped."
fi
exit 0
