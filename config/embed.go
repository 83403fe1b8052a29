// Package config holds the manifests that install the operator, so that the CLI
// installs what the repository says. It has no behaviour.
package config

import "embed"

// Manifests are the CRDs, the roles, the operator and its webhook.
//
//go:embed crd/bases rbac manager webhook
var Manifests embed.FS
