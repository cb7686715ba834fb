// Kinds of objects that a cluster may have, and ours has not: their definitions only. Nothing is compiled.
module crds

go 1.26

require (
	github.com/argoproj/argo-cd/v3 v3.1.0
	github.com/kubernetes-csi/external-snapshotter/client/v8 v8.2.0
	github.com/openshift/api v0.0.0-20251021124544-a2cb0c5d994d
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
