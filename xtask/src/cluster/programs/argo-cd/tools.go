//go:build tools

// Argo CD and kustomize are built from this module; it has no program of its own.
package tools

import (
	_ "github.com/argoproj/argo-cd/v3/cmd"
	_ "sigs.k8s.io/kustomize/kustomize/v5"
)
