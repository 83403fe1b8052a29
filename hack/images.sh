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
    if [ -n "${OSM_IMAGES_ARE_LOADED:-}" ]; then
      exit 0 # a cluster of somebody else, who has pushed them to its registry
    fi
    say "images, into the cluster $OSM_CLUSTER"
    (cd hack/images && go run . --load "$OSM_CLUSTER")
    ;;
  *) die "unknown verb $1" ;;
esac
