//go:build tools

// The controller of Shipwright is built from this module; it has no program of its own.
package tools

import _ "github.com/shipwright-io/build/cmd/shipwright-build-controller"
