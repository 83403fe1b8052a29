#!/usr/bin/env bash
# Puts the operator onto a cluster with its plain manifests, or takes it away.
#
# Usage: deploy.sh install|deploy|undeploy|uninstall
set -euo pipefail
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_cluster
use_kubectl

# apply writes what a kustomization makes.
apply() { tool kustomize build "$1" | kubectl apply --server-side --force-conflicts --field-manager=osm-deploy -f -; }

# remove deletes it again; what is gone already is fine.
remove() { tool kustomize build "$1" | kubectl delete --ignore-not-found -f -; }

case ${1:-} in
  install) apply config/crd ;;
  uninstall) remove config/crd ;;
  deploy)
    apply config/default
    kubectl -n osm-operator-system rollout status deployment --timeout=180s
    ;;
  undeploy)
    # The operator itself takes its meshes away, so it has to be there until they are gone.
    kubectl delete meshes.operator.openservicemesh.io --all --ignore-not-found --timeout=180s
    remove config/webhook
    remove config/manager
    remove config/rbac
    ;;
  *) die "usage: deploy.sh install|deploy|undeploy|uninstall" ;;
esac
