#!/usr/bin/env bash
# Makes every generated file anew: deep copies, CRDs, Go code of protos, the reference
# of the API, the bundle. hack/check.sh runs it on a copy and compares.
#
# Usage: generate.sh [all|code|manifests|protos|docs|bundle]
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

code() {
  say "deep copies"
  tool controller-gen object paths=./api/...
}

# allowDangerousTypes: the weight of a TrafficSplit was published as a number.
manifests() {
  say "CRDs"
  tool controller-gen crd:allowDangerousTypes=true paths=./api/... output:crd:dir=config/crd/bases
}

protos() {
  local files
  mapfile -t files < <(find . -name '*.proto' -not -path './hack/*' -printf '%P\n' | sort)
  if [ ${#files[@]} -gt 0 ]; then
    say "protos"
    (cd hack/tools && go run ./protogen -root ../.. "${files[@]}")
  fi
}

docs() {
  say "API reference"
  mkdir -p docs/reference
  tool crd-ref-docs --source-path=api --config=hack/api-docs.yaml --renderer=markdown --output-path=docs/reference/api.md --log-level=WARN
}

bundle() {
  say "bundle"
  tool kustomize build config/default | (
    cd hack/tools
    go run ./bundle -base ../../config/manifests/base.clusterserviceversion.yaml -samples ../../config/samples \
      -release ../../internal/release/release.go -out ../../bundle
  )
}

case ${1:-all} in
  all) code; manifests; protos; docs; bundle ;;
  code | manifests | protos | docs | bundle) "$1" ;;
  *) die "unknown part $1" ;;
esac
