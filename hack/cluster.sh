#!/usr/bin/env bash
# Starts, stops and looks at the local cluster. With KUBECONFIG set that cluster is
# used, and nothing is started or stopped.
#
# Usage: cluster.sh up|down|status
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! is_local; then
  say "KUBECONFIG is set: using the cluster of $KUBECONFIG as it is"
  if [ "${1:-}" = status ]; then
    use_kubectl
    kubectl get nodes -o wide
  fi
  exit 0
fi
case ${1:-status} in
  up | status) cluster_verb "$1" --name "$OSM_CLUSTER" ;;
  down)
    cluster_verb down --name "$OSM_CLUSTER"
    cluster_verb verify-clean --name "$OSM_CLUSTER"
    ;;
  *) die "unknown verb $1" ;;
esac
