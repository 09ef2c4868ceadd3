# Sourced by the other scripts: makes .venv beside the README and installs the project with the extra named in $1.
# PYTHON chooses the interpreter; it has to be 3.11 or later.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
fit='import sys; sys.exit(sys.version_info < (3, 11))'
if ! "$python" -c "$fit" 2>/dev/null; then
    echo "Gradloom needs Python 3.11 or later; $python is $("$python" --version 2>&1 || true). Set PYTHON=/path/to/python3.11." >&2
    exit 1
fi
exec 9<scripts/venv.sh
if command -v flock >/dev/null; then flock 9 || true; fi    # another script may be at it; some disks have no locks
if ! .venv/bin/python -c "import pip; $fit" 2>/dev/null; then    # none there, or one that was not finished
    "$python" -m venv --clear .venv || { echo "cannot make .venv; on Debian: apt install python3-venv" >&2; exit 1; }
fi
stamp=".venv/.installed-$1"
if [ ! -e "$stamp" ] || [ setup.py -nt "$stamp" ]; then
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --disable-pip-version-check ${PIP_ARGUMENTS:-} -e ".[$1]" || {
        echo "cannot install what Gradloom needs; see above. It comes from the network, or from where PIP_ARGUMENTS says." >&2
        exit 1
    }
    touch "$stamp"
fi
exec 9<&-
