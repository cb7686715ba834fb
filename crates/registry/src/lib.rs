//! OCI distribution server with its own metadata; stands alone.
