//! Executes one variant's steps and gives an OCI image.
