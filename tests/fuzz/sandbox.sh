#!/bin/sh
# Run a command with every disk read-only but for one temporary folder (TMPDIR) and without a network, where Linux lets
# us: in a mount namespace of its own. Elsewhere run it as it is, and say so.
set -eu
if [ "${1-}" = --inside ]; then
  shift
  mount --make-rprivate /
  mount --bind "$TMPDIR" "$TMPDIR"
  awk '{print $5}' /proc/self/mountinfo | sort -ru | while read -r place; do
    case $place in
      "$TMPDIR" | /dev/* | /proc | /proc/* | /sys | /sys/*) ;;
      *) mount -o remount,bind,ro "$place" ;;
    esac
  done
  exec "$@"
fi

TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for how in "unshare -mn" "unshare -rmn"; do
  if $how "$0" --inside sh -c '! touch "$0" && touch "$TMPDIR/x"' "$0" >/dev/null 2>&1; then
    echo "the disk is read-only, but for $TMPDIR"
    $how "$0" --inside "$@"
    exit
  fi
done
echo "no sandbox here: only the readers are called, in this process, which write to a temporary folder alone"
"$@"
