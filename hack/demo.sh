#!/usr/bin/env bash
# Shows a mesh that carries traffic: a cluster, the operator, one Mesh, the bookstore,
# and a table of counted requests.
#
# Usage: demo.sh up|down
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-up} in
  up)
    own=${KUBECONFIG:-}
    use_cluster
    use_kubectl
    if [ -z "$own" ]; then
      hack/images.sh load
    fi
    go run ./test/demo up
    ;;
  down)
    if [ -n "${KUBECONFIG:-}" ]; then
      go run ./test/demo down
    else
      hack/cluster.sh down
    fi
    ;;
  *) die "unknown verb $1" ;;
esac
