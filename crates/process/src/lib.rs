//! The one subprocess helper, clock and tracked tasks.
