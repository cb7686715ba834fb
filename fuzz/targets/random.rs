//! The same "random" numbers each time, so that hash tables are walked in the same order, and a search with a
//! seed can be repeated.

use std::sync::atomic::{AtomicU64, Ordering};

/// libc's function, which the standard library asks for the keys of hash tables: the program's own one wins.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    static STATE: AtomicU64 = AtomicU64::new(1);
    for at in 0..length {
        // Knuth's MMIX generator; its high bits are the good ones.
        let step = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let state = STATE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state)));
        let byte = state.unwrap_or_default().to_be_bytes()[0];
        // SAFETY: by getrandom(2), `buffer` has `length` bytes.
        unsafe { buffer.add(at).write(byte) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
