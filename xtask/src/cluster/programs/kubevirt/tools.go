//go:build tools

// KubeVirt's programs are built from this module; it has none of its own.
package tools

import _ "kubevirt.io/kubevirt/cmd/virt-operator"
