#!/usr/bin/env bash
# Formats or lints every module of the repository with the same configuration.
#
# Usage: lint.sh format|format-diff|run
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-run} in
  format) args=(fmt) ;;
  format-diff) args=(fmt --diff) ;;
  run) args=(run) ;;
  *) die "unknown verb $1" ;;
esac

status=0
for module in $(modules); do
  (cd "$module" && tool golangci-lint "${args[@]}" --config "$root/.golangci.yml" ./...) || status=1
done
exit $status
