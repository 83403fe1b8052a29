#!/usr/bin/env bash
# Builds the images, and loads them into the local cluster where there is one.
#
# Usage: images.sh build|load
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-build} in
  build)
    say "images, into dist/images"
    (cd hack/images && go run . --out "$root/dist/images")
    ;;
  load)
    if ! is_local; then
      say "KUBECONFIG names another cluster: it has to get the images from its registry"
      exit 0
    fi
    say "images, into the cluster $OSM_CLUSTER"
    (cd hack/images && go run . --load "$OSM_CLUSTER")
    ;;
  *) die "unknown verb $1" ;;
esac
