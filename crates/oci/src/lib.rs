//! Byte-exact OCI manifests and layers, and the one distribution client.
