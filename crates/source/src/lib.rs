//! Git: poll, fetch, read a commit's tree.
