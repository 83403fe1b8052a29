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
    use_cluster
    use_kubectl
    hack/images.sh load
    CGO_ENABLED=0 go build -trimpath -o bin/osm .
    go run ./test/demo up
    ;;
  down)
    if is_local; then
      hack/cluster.sh down
    else
      go run ./test/demo down
    fi
    ;;
  *) die "unknown verb $1" ;;
esac
