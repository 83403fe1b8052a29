#!/usr/bin/env bash
# Checks the code without running it: form, linters, generated files, architecture,
# dead code, modules, manifests. Changes nothing.
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=()

# step runs a check and remembers whether it failed, so that one run shows them all.
step() {
  local name=$1
  shift
  say "$name"
  if ! "$@"; then
    failed+=("$name")
  fi
}

scripts() {
  local script
  for script in hack/*.sh .ci/run; do
    bash -n "$script" || return
    [ "$script" = hack/lib.sh ] || [ -x "$script" ] || { echo "$script is not executable"; return 1; }
  done
}

# generated_files lists the generated files below a folder.
generated_files() {
  (cd "$1" && find api config/crd/bases docs/reference internal test bundle -type f \
    \( -name 'zz_generated.*' -o -name '*.pb.go' -o -name '*.gen.go' -o -path 'config/crd/bases/*' -o -path 'docs/reference/api.md' -o -path 'bundle/*' \) 2>/dev/null || true)
}

# generated makes all generated files in a copy of the tree and compares.
generated() {
  local copy status=0
  copy=$(mktemp -d)
  git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
    if [ -e "$f" ]; then printf '%s\0' "$f"; fi
  done | tar -c --null -T - | tar -x -C "$copy"
  "$copy/hack/generate.sh" all >/dev/null || status=1
  local file
  while read -r file; do
    diff -u "$file" "$copy/$file" || status=1
  done < <({ generated_files .; generated_files "$copy"; } | sort -u)
  rm -rf "$copy"
  [ $status -eq 0 ] || echo "generated files are not current: run make generate"
  return $status
}

dead_code() {
  local found
  found=$(tool deadcode . ./test/apps) || return
  [ -z "$found" ] || { echo "$found"; return 1; }
}

tidy() {
  local module status=0
  for module in $(modules); do
    (cd "$module" && go mod tidy -diff) || status=1
  done
  return $status
}

builds() {
  local part status=0
  for part in config/crd config/default config/samples; do
    if [ -f "$part/kustomization.yaml" ]; then
      tool kustomize build "$part" >/dev/null || status=1
    fi
  done
  return $status
}

step "scripts" scripts
step "format" hack/lint.sh format-diff
step "lint" hack/lint.sh run
step "generated files" generated
step "architecture" go test ./internal/testkit/arch
step "dead code" dead_code
step "modules are tidy" tidy
step "manifests build" builds

if [ ${#failed[@]} -gt 0 ]; then
  die "$(IFS=,; echo "failed:${failed[*]/#/ }")"
fi
say "all checks passed"
