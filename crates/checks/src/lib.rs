//! Check runner: the same code in lanes and on devices; also a static binary.
