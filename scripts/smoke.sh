#!/usr/bin/env bash
# Starts the demo with the given program, asserts it from outside with `weir smoke`, ends it.
set -euo pipefail
weir=$(realpath "$1")
dir=$(mktemp -d)

"$weir" demo --listen 127.0.0.1:0 --data-dir "$dir/data" >"$dir/out" 2>"$dir/err" &
demo=$!
trap 'kill "$demo" 2>/dev/null; wait "$demo" 2>/dev/null; rm -rf "$dir"' EXIT

url=
for _ in $(seq 600); do
  url=$(awk '/^weir demo ready/ {print $4; exit}' "$dir/out")
  [ -n "$url" ] && break
  kill -0 "$demo" 2>/dev/null || { cat "$dir/err"; echo "the demo ended before it was ready"; exit 1; }
  sleep 0.1
done
[ -n "$url" ] || { cat "$dir/err"; echo "the demo was not ready within a minute"; exit 1; }

# Ready means that everything runs; the first lag and the first alert evaluation come some seconds later.
for _ in $(seq 12); do
  if said=$("$weir" smoke "$url" 2>&1); then
    echo "$said"
    exit 0
  fi
  sleep 5
done
echo "$said"
tail -50 "$dir/err"
exit 1
