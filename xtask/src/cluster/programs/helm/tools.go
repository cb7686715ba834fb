//go:build tools

// Helm is built from this module; it has none of its own.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
