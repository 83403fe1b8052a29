# What the scripts of this folder share; source it from bash.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
cd "$root"

# A machine that has just booted may not have Go in its path.
if ! command -v go >/dev/null && [ -x /usr/local/go/bin/go ]; then
  export PATH="$PATH:/usr/local/go/bin"
fi

# say prints a step, for people who wait.
say() { printf '==> %s\n' "$*"; }

# die ends the script with a reason.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# tool runs one of the pinned tools.
tool() {
  local name=$1
  shift
  [ "$name" = golangci-lint ] && name=golangci-lint-kube-api-linter
  go tool -modfile="$root/hack/tools/go.mod" "$name" "$@"
}

# modules lists the folders of all Go modules that hold code of this project.
modules() {
  local mod
  for mod in go.mod hack/*/go.mod; do
    [ -f "$mod" ] && dirname "$mod"
  done
}

# The name of the local cluster.
OSM_CLUSTER=${OSM_CLUSTER:-osm}
export OSM_CLUSTER

# cluster_verb runs a verb of the local cluster's program.
cluster_verb() {
  local verb=$1
  shift
  (cd "$root/hack/cluster" && go run . "$verb" "$@")
}

# cluster_path is the folder with kube-apiserver, etcd and kubectl; they are built
# where they are missing.
cluster_path() { cluster_verb bin-path; }

# is_local says whether the cluster to use is the local one: no other is named, or
# KUBECONFIG names it, as somebody may have exported it.
is_local() {
  [ -z "${KUBECONFIG:-}" ] || [ "$KUBECONFIG" = "$(cluster_verb kubeconfig --name "$OSM_CLUSTER" 2>/dev/null)" ]
}

# use_cluster makes sure that there is a cluster and that KUBECONFIG names it; its
# arguments are flags for one that has to be started. Where KUBECONFIG is set already,
# nothing is built or started.
use_cluster() {
  is_local || return 0
  cluster_verb up --name "$OSM_CLUSTER" "$@" >&2
  KUBECONFIG=$(cluster_verb kubeconfig --name "$OSM_CLUSTER")
  export KUBECONFIG
}

# use_kubectl makes sure that there is a kubectl in the path.
use_kubectl() {
  if ! command -v kubectl >/dev/null; then
    PATH="$(cluster_path):$PATH"
    export PATH
  fi
}
