//! Who may work: some scenarios at once, and those that run alone one by one, after all others.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The turns of a test.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    at_once: usize,
}

#[derive(Debug)]
struct State {
    /// Those that share and have not ended their work.
    left: usize,
    working: usize,
}

/// A turn; it ends with this value.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    is_alone: bool,
}

impl Turns {
    /// `shared`: how many do not run alone.
    pub(super) fn new(at_once: usize, shared: usize) -> Arc<Self> {
        let state = Mutex::new(State { left: shared, working: 0 });
        Arc::new(Self { state, changed: Condvar::new(), at_once })
    }

    /// Waits for a turn.
    pub(super) fn wait(self: &Arc<Self>, is_alone: bool) -> Turn {
        let waits = |state: &mut State| {
            if is_alone { state.left > 0 || state.working > 0 } else { state.working >= self.at_once }
        };
        let state = self.changed.wait_while(self.lock(), waits);
        state.unwrap_or_else(PoisonError::into_inner).working += 1;
        Turn { turns: Arc::clone(self), is_alone }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.working -= 1;
        if !self.is_alone {
            state.left = state.left.saturating_sub(1);
        }
        drop(state);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_than_some_at_once_and_the_rest_alone() {
        let turns = Turns::new(2, 6);
        let (working, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ended = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let is_alone = number < 2;
                let (turns, working, most, ended) = (&turns, &working, &most, &ended);
                scope.spawn(move || {
                    let turn = turns.wait(is_alone);
                    let now = working.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(!is_alone || now == 1);
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    ended.lock().unwrap().push(is_alone);
                    working.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert!(most.into_inner() <= 2);
        let ended = ended.into_inner().unwrap();
        assert_eq!(ended.len(), 8);
        assert_eq!(ended[6..], [true, true], "after all others");
    }
}
