#!/bin/sh
# Make a virtual environment with nbmodel, all its extras and some dependency groups.
#
#   install.sh FOLDER PYTHON GROUP...
#
# The file FOLDER/.installed is newer than pyproject.toml when there is nothing to do.
set -eu
venv=$1
python=$2
shift 2
groups=
for group in "$@"; do
    groups="$groups --group $group"
done

echo "Installing into $venv with $("$python" --version) (minutes at first, then only when pyproject.toml changes)"
# Made anew when it is not there, or was left half-made, or its interpreter has gone.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
# --group is pip 25.1's; the pip that came with the interpreter may be older.
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
# shellcheck disable=SC2086
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --root-user-action=ignore \
    --editable '.[all]' $groups
touch "$venv/.installed"
