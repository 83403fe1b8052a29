#!/usr/bin/env bash
# Runs the tests. What a kind of test needs is made first; where it cannot be made the
# run fails, and a test that is skipped for want of it fails the run.
#
# Usage: test.sh unit|race|apiserver|cluster|e2e|e2e-tokens|bench|bench-large|bench-code [flags...]
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

logs=${OSM_TEST_LOGS:-$root/dist/test}
mkdir -p "$logs"

# report shows the results of a run of go test; its first argument says for want of
# what tests may be skipped, since another kind of run has it.
report() {
  local name=$1 may_skip=$2
  "$reporter" -may-skip "$may_skip" -log "$logs/$name.log"
}

# What tests that run elsewhere say when they skip: other kinds of run have what they
# need. Whoever is not root hears what was left out.
elsewhere='OSM_E2E|KUBEBUILDER_ASSETS'
if [ "$(id -u)" -ne 0 ]; then
  say "not root: tests that need network namespaces of their own are left out"
  elsewhere+='|need root'
fi

build_reporter() {
  reporter=$(mktemp -d)/testreport
  trap 'rm -rf "$(dirname "$reporter")"' EXIT
  (cd hack/tools && go build -o "$reporter" ./testreport)
}

# use_envoy sets OSM_TEST_ENVOY to a real Envoy.
use_envoy() {
  if [ -z "${OSM_TEST_ENVOY:-}" ]; then
    OSM_TEST_ENVOY=$(cd hack/images && go run . envoy-path)
    export OSM_TEST_ENVOY
  fi
  "$OSM_TEST_ENVOY" --version >/dev/null || die "OSM_TEST_ENVOY=$OSM_TEST_ENVOY is no Envoy that runs here"
}

# use_apiserver sets KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd.
use_apiserver() {
  if [ -z "${KUBEBUILDER_ASSETS:-}" ]; then
    KUBEBUILDER_ASSETS=$(cluster_path)
    export KUBEBUILDER_ASSETS
  fi
  local binary
  for binary in kube-apiserver etcd; do
    [ -x "$KUBEBUILDER_ASSETS/$binary" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no $binary"
  done
}

# use_vault sets OSM_TEST_VAULT to a real HashiCorp Vault, built where it is missing.
use_vault() {
  if [ -z "${OSM_TEST_VAULT:-}" ]; then
    OSM_TEST_VAULT=$(cluster_verb bin-path --part vault)/vault
    export OSM_TEST_VAULT
  fi
  [ -x "$OSM_TEST_VAULT" ] || die "OSM_TEST_VAULT=$OSM_TEST_VAULT is no Vault"
}

# packages_with lists the packages whose tests name one of these words.
packages_with() {
  grep -rlE "$1" --include='*_test.go' . | grep -v -e '^./hack/' -e '^./test/e2e/' -e '^./internal/testkit/arch/' | xargs -rn1 dirname | sort -u
}

unit() {
  use_envoy
  use_vault
  say "unit tests"
  go test -json "$@" ./... | report unit "$elsewhere"
  local module
  for module in $(modules); do
    [ "$module" = . ] && continue
    say "unit tests of $module"
    (cd "$module" && go test -json "$@" ./...) | report "unit-$(basename "$module")" 'OSM_CLUSTER_TEST'
  done
}

# race repeats the tests of what runs goroutines, under the race detector.
race() {
  local packages
  mapfile -t packages < <(grep -rlE '^\s+(go |.*\bsync\.)' --include='*.go' internal controllers | grep -v -e internal/testkit -e '\.pb\.go' | xargs -rn1 dirname | sort -u | sed 's,^,./,')
  use_envoy
  use_vault
  say "tests of ${#packages[@]} packages under the race detector"
  CGO_ENABLED=1 go test -race -json "$@" "${packages[@]}" | report race "$elsewhere"
}

apiserver() {
  local packages
  mapfile -t packages < <(packages_with 'KUBEBUILDER_ASSETS|testkit/apiserver|envtest')
  [ ${#packages[@]} -gt 0 ] || die "no test asks for an API server"
  use_envoy
  use_vault
  use_apiserver
  say "tests with a real API server"
  go test -json -p 1 "$@" "${packages[@]}" | report apiserver 'OSM_E2E'
}

# cluster tests the local cluster itself, with one of its own beside any other.
cluster() {
  if ! is_local; then
    say "KUBECONFIG names another cluster: the local one is not tested"
    return
  fi
  say "the local cluster, from nothing to nothing"
  (cd hack/cluster && OSM_CLUSTER_TEST=1 go test -json -count=1 -timeout 20m -run TestClusterFromNothingToNothing "$@" .) | report cluster ''
}

e2e() {
  use_cluster
  use_kubectl
  hack/images.sh load
  say "end-to-end tests on the cluster of $KUBECONFIG"
  OSM_E2E=1 go test -json -count=1 -timeout 40m "$@" ./test/e2e/... | report e2e ''
}

# e2e_tokens repeats what a mesh is for on a local cluster without pod certificates, as
# Kubernetes before 1.37 is: there, pods prove themselves with tokens.
e2e_tokens() (
  if ! is_local; then
    say "KUBECONFIG names another cluster: none is started without pod certificates"
    return
  fi
  unset KUBECONFIG
  export OSM_CLUSTER=$OSM_CLUSTER-tokens
  trap 'hack/cluster.sh down' EXIT
  use_cluster --feature-gates PodCertificateRequest=false,ClusterTrustBundle=false,ClusterTrustBundleProjection=false
  use_kubectl
  hack/images.sh load
  say "end-to-end tests without pod certificates"
  OSM_E2E=1 go test -json -count=1 -timeout 20m \
    -run '^(TestProtocolsInPermissiveMode|TestEnforcedAccess|TestProbes|TestRollingRestartLosesNothing|TestControlPlaneAway|TestPlaintextIsRefused)$' \
    "$@" ./test/e2e | report e2e-tokens ''
)

# bench measures what a mesh costs its control plane, with a fleet of fake proxies.
bench() {
  use_apiserver
  mkdir -p dist
  go run ./test/bench/fleet "$@" | tee dist/fleet.md
}

bench_large() {
  use_apiserver
  mkdir -p dist
  go run ./test/bench/fleet -large "$@" | tee dist/fleet-large.md
}

bench_code() {
  use_envoy
  mkdir -p dist
  say "benchmarks"
  go test -run '^$' -bench . -benchmem "$@" ./internal/... | tee dist/bench.txt
}

kind=${1:-unit}
shift || true
case $kind in
  unit | race | apiserver | cluster | e2e | e2e-tokens | bench | bench-large | bench-code)
    build_reporter
    "${kind//-/_}" "$@"
    ;;
  *) die "unknown kind of test $kind" ;;
esac
