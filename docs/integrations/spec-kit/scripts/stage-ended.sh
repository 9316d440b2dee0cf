#!/bin/sh
# stage-ended.sh STAGE: tells spec-notify that a stage of this project's feature has ended.
# It never fails and never waits for a network: the stage is what it is, told or not.
set -u

stage=${1:?stage-ended.sh STAGE}
say() { echo "spec-notify: $*" >&2; }

if ! command -v spec-notify >/dev/null 2>&1; then
    say "not installed, so $stage is not told"
    exit 0
fi

# This lies in .specify/extensions/spec-notify/scripts.
root=$(CDPATH='' cd -- "${0%/*}/../../../.." && pwd) || exit 0

# The SPEC is the folder that feature.json names, else the branch.
feature=$(tr -d '\r\n' <"$root/.specify/feature.json" 2>/dev/null |
    sed -n 's/.*"feature_directory"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
feature=${feature%/}
spec=${feature##*/}
if [ -z "$spec" ]; then
    spec=$(git -C "$root" symbolic-ref --quiet --short HEAD 2>/dev/null | tr / -)
fi
if [ -z "$spec" ]; then
    say "$stage is not told: neither .specify/feature.json nor a branch says which feature it is of"
    exit 0
fi

spec-notify emit --hook --repo "$root" --type spec-auto.stage.completed \
    --spec "$spec" --stage "$stage" --status success </dev/null || say "$stage of $spec is not told"
exit 0
