#!/bin/sh
# sh local/private_env.sh NAME: an .env that holds a secret is for its owner alone from now on; NAME is told who did that.
set -u
cd "$(dirname "$0")/.." || exit 2
name=$1
# settings that are secret, in capitals or not, as the programs read them; and values with a login or a key in them
named='([A-Z0-9_]*(PASSWORD|SECRET|API_?KEY)[A-Z0-9_]*|AWS_ACCESS_KEY_ID|AWS_SESSION_TOKEN|AZURE_STORAGE_KEY|AZURE_STORAGE_SAS_TOKEN|(DATABASE|REDIS)_URL)[[:space:]]*=[[:space:]]*[^[:space:]]'
told='[A-Z0-9_]+[[:space:]]*=.*(://[^/[:space:]]*@|API_?KEY)'
grep -Eiqs "^[[:space:]]*(export[[:space:]]+)?($named|$told)" .env || exit 0
open=$(find -L .env -prune \( -perm -040 -o -perm -020 -o -perm -004 -o -perm -002 \))
[ -n "$open" ] || exit 0
if chmod 600 .env 2>/dev/null; then
    echo "$name: .env holds a password, and others could read it: its mode is 0600 now"
else
    echo "$name: .env holds a password, and others can read it; let its owner type: chmod 600 .env" >&2
fi
