# What a developer does with this repository. Recipes of more than a few lines are
# scripts in hack/.
#
# Variables: KUBECONFIG   use this cluster instead of a local one
#            OSM_CLUSTER  name of the local cluster (osm)
#            ARGS         more flags for go test or the fleet, such as ARGS='-run TestDrain -v'

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ARGS ?=

##@ General

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make TARGET"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Develop

.PHONY: build
build: ## Build the binary, into bin/osm
	CGO_ENABLED=0 go build -trimpath -o bin/osm .

.PHONY: tools
tools: ## Build the pinned tools into Go's cache, so that later targets start at once
	go build -C hack/tools tool ./...

.PHONY: generate
generate: ## Make all generated files anew: deep copies, CRDs, protos, API reference, bundle
	hack/generate.sh all

.PHONY: manifests
manifests: ## Make the CRDs anew
	hack/generate.sh manifests

.PHONY: fmt
fmt: ## Format the code
	hack/lint.sh format

.PHONY: lint
lint: ## Run the linters
	hack/lint.sh run

.PHONY: check
check: ## Format, linters, generated files, architecture, dead code, modules; changes nothing
	hack/check.sh

##@ Test

.PHONY: test
test: test-unit test-apiserver test-cluster test-e2e test-e2e-tokens ## Run all tests; starts a local cluster where KUBECONFIG is not set

.PHONY: test-unit
test-unit: ## Unit, golden and property tests, with a real Envoy
	hack/test.sh unit $(ARGS)

.PHONY: test-race
test-race: ## Tests of concurrent packages under the race detector
	hack/test.sh race $(ARGS)

.PHONY: test-apiserver
test-apiserver: ## Tests against a real kube-apiserver
	hack/test.sh apiserver $(ARGS)

.PHONY: test-cluster
test-cluster: ## Test of the local cluster itself (Linux, root)
	hack/test.sh cluster $(ARGS)

.PHONY: test-e2e
test-e2e: ## End-to-end tests on a cluster
	hack/test.sh e2e $(ARGS)

.PHONY: test-e2e-tokens
test-e2e-tokens: ## The main ones on a local cluster without pod certificates
	hack/test.sh e2e-tokens $(ARGS)

.PHONY: bench
bench: ## What a mesh costs the control plane, measured with a fleet of proxies; prints one table
	hack/test.sh bench $(ARGS)

.PHONY: bench-large
bench-large: ## The same with 10,000 proxies and 1,000 services
	hack/test.sh bench-large $(ARGS)

.PHONY: bench-code
bench-code: ## Benchmarks of packages, into dist/bench.txt
	hack/test.sh bench-code $(ARGS)

##@ Cluster

.PHONY: cluster-up
cluster-up: ## Start a local Kubernetes cluster (Linux, root)
	hack/cluster.sh up

.PHONY: cluster-down
cluster-down: ## Stop the local cluster and leave nothing of it
	hack/cluster.sh down

.PHONY: cluster-status
cluster-status: ## Tell what the local cluster is doing
	hack/cluster.sh status

.PHONY: images
images: ## Build the images without Docker, and load them into the local cluster
	hack/images.sh load

.PHONY: images-archive
images-archive: ## Build the images without Docker, into dist/images
	hack/images.sh build

##@ Use

.PHONY: demo
demo: ## Show a mesh that carries traffic, from a bare machine
	hack/demo.sh up

.PHONY: demo-down
demo-down: ## Remove all of the demo
	hack/demo.sh down

.PHONY: install
install: ## Put the CRDs onto the cluster
	hack/deploy.sh install

.PHONY: uninstall
uninstall: ## Remove the CRDs, and with them every object of these kinds
	hack/deploy.sh uninstall

.PHONY: deploy
deploy: ## Put the operator onto the cluster
	hack/deploy.sh deploy

.PHONY: undeploy
undeploy: ## Remove all meshes and the operator from the cluster; the CRDs stay
	hack/deploy.sh undeploy

.PHONY: bundle
bundle: ## Make the OLM bundle anew, into bundle/
	hack/generate.sh bundle

.PHONY: clean
clean: ## Remove what builds and tests have left in the tree
	rm -rf bin dist cover.html
