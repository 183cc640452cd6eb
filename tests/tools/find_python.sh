#!/bin/sh
# Print the path of a Python that can make virtual environments.
#
#   find_python.sh           python3 if it is 3.10 to 3.13, else the newest of those found
#   find_python.sh 3.12      that version; prints nothing and exits 1 when there is none
#
# Looked for on PATH, then among pyenv's versions. A candidate is run, not trusted by its
# name: pyenv's shims stand for versions that are not active, and Debian's python3 comes
# without ensurepip.
set -u

runs_as() { # PYTHON MINOR: print its real path when it is that version and can make a venv
    "$1" -c '
import sys, ensurepip, venv
if "{}.{}".format(*sys.version_info) != sys.argv[1]:
    sys.exit(1)
print(sys.executable)' "$2" 2>/dev/null
}

find_minor() {
    old_ifs=$IFS
    IFS=:
    for folder in $PATH; do
        if [ -x "$folder/python$1" ] && runs_as "$folder/python$1" "$1"; then
            return 0
        fi
    done
    IFS=$old_ifs
    for candidate in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$1".*/bin/python; do
        if [ -x "$candidate" ] && runs_as "$candidate" "$1"; then
            return 0
        fi
    done
    return 1
}

if [ $# -gt 0 ]; then
    find_minor "$1"
    exit
fi
for minor in 3.13 3.12 3.11 3.10; do
    runs_as python3 "$minor" && exit 0
done
for minor in 3.13 3.12 3.11 3.10; do
    find_minor "$minor" && exit 0
done
echo "No Python 3.10 to 3.13 with venv and ensurepip found (on Debian: apt-get install python3-venv)." >&2
exit 1
