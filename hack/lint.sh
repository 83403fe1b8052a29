#!/usr/bin/env bash
# Formats or lints every module of the repository with the same configuration.
#
# Usage: lint.sh format|format-diff|run
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The formatter walks folders and knows no modules; the linters compile one module.
case ${1:-run} in
  format) tool golangci-lint fmt ;;
  format-diff) tool golangci-lint fmt --diff ;;
  run)
    status=0
    for module in $(modules); do
      (cd "$module" && tool golangci-lint run --config "$root/.golangci.yml" ./...) || status=1
    done
    exit $status
    ;;
  *) die "unknown verb $1" ;;
esac
