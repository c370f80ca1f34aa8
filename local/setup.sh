#!/bin/sh
# Finds a Python that can make the virtual environment and lets it do the rest: python -m local setup.
# In sh, because nothing of the project can be taken for granted before: perhaps there is no Python at all.
cd "$(dirname "$0")/.." || exit 2
version='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'
# Debian and Ubuntu package venv apart, and a pyenv shim exists without its version: only running it tells.
venv='import venv, ensurepip'

without_venv=
for python in .venv/bin/python python3.11 python3.12 python3 python; do
    "$python" -c "$version" 2>/dev/null || continue
    if "$python" -c "$venv" 2>/dev/null; then
        exec "$python" -m local setup "$@"
    fi
    without_venv=${without_venv:-$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')}
done

if [ -n "$without_venv" ]; then
    echo "setup: $without_venv is here without its venv module; install it with: sudo apt-get install $without_venv-venv" >&2
    exit 2
fi
install='https://www.python.org/downloads/ or: pyenv install 3.11'
command -v brew >/dev/null 2>&1 && install='brew install python@3.11'
command -v dnf >/dev/null 2>&1 && install='sudo dnf install python3.11'
command -v apt-get >/dev/null 2>&1 &&
    install='sudo apt-get install python3.11 python3.11-venv (or python3.12 python3.12-venv)'
echo "setup: Python 3.11 or 3.12 is needed and not in PATH; install it with: $install" >&2
exit 2
