//! Who may work: some scenarios at once, in their order; those that run alone work beside no other.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The turns of a test.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    at_once: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Those that wait, in their order.
    queue: VecDeque<usize>,
    tickets: usize,
    working: usize,
    /// Whether the one that works runs alone.
    is_alone: bool,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Ticket {
    turns: Arc<Turns>,
    number: usize,
}

/// A turn; it ends with this value.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), at_once })
    }

    /// The next place in the queue.
    pub(super) fn queue(self: &Arc<Self>) -> Ticket {
        let mut state = self.lock();
        let number = state.tickets;
        state.tickets += 1;
        state.queue.push_back(number);
        Ticket { turns: Arc::clone(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Waits for the turn: those before in the queue have begun.
    pub(super) fn wait(self, is_alone: bool) -> Turn {
        let Self { turns, number } = self;
        let at_once = if is_alone { 1 } else { turns.at_once };
        let waits = |state: &mut State| {
            state.queue.front() != Some(&number) || state.is_alone || state.working >= at_once
        };
        let state = turns.changed.wait_while(turns.lock(), waits);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.queue.pop_front();
        state.working += 1;
        state.is_alone = is_alone;
        drop(state);
        turns.changed.notify_all();
        Turn(turns)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.working -= 1;
        state.is_alone = false;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Eight that want to work: in which order they began, and the most that worked at once.
    fn work(at_once: usize, is_alone: fn(usize) -> bool) -> (Vec<usize>, usize) {
        let turns = Turns::new(at_once);
        let (working, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let begun = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            // The last one waits first: threads begin in any order.
            let tickets: Vec<Ticket> = (0..8).map(|_| turns.queue()).collect();
            for (number, ticket) in tickets.into_iter().enumerate().rev() {
                let (working, most, begun) = (&working, &most, &begun);
                scope.spawn(move || {
                    let turn = ticket.wait(is_alone(number));
                    begun.lock().unwrap().push(number);
                    let now = working.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    assert!(!is_alone(number) || working.load(Ordering::SeqCst) == 1);
                    working.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        (begun.into_inner().unwrap(), most.into_inner())
    }

    #[test]
    fn no_more_than_some_at_once_and_some_alone() {
        let (begun, most) = work(2, |number| number % 4 == 1);
        assert_eq!(begun.len(), 8);
        assert!(most <= 2);
    }

    #[test]
    fn in_their_order() {
        let (begun, most) = work(1, |_| false);
        assert_eq!((begun, most), ((0..8).collect(), 1));
    }
}
