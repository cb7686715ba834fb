//! Which attempts this process works on. Pure, but for its lock.
//!
//! ```text
//!        claim ──▶ live ── outcome returned ──▶ done ── LINGER ──▶ removed
//!                    └──── dropped, cancelled ──▶ left ─────────▶ removed at once
//! ```
//!
//! An object that no job of this process claimed belongs to a job of an earlier process. The job that does
//! the same claims it; if none comes within [`UNCLAIMED`], it is an orphan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::{Attempt, OrderId, Part};

/// How long the objects of a job stay after its outcome was returned: if the server is killed before it has
/// stored the outcome, it finds it again.
pub(crate) const LINGER: Duration = Duration::from_mins(1);
/// How long an object of an earlier process waits for a job that claims it. A server that starts plans again
/// what was interrupted within this time.
pub(crate) const UNCLAIMED: Duration = Duration::from_mins(15);
/// How long the number of an attempt is not used again after its objects are gone: what they own may end
/// later.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// The attempts of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    states: BTreeMap<Attempt, State>,
    /// Since when objects of no attempt are known.
    strangers: BTreeMap<String, Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Done(Instant),
    Left(Instant),
}

/// A claimed attempt. If it is dropped before [`Claim::done`], its objects are removed.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    attempt: Attempt,
}

impl Claim {
    pub(crate) const fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// The outcome is returned.
    pub(crate) fn done(self) {
        self.claims.lock().states.insert(self.attempt.clone(), State::Done(Instant::now()));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut known = self.claims.lock();
        if let Some(state @ State::Live) = known.states.get_mut(&self.attempt) {
            *state = State::Left(Instant::now());
        }
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an attempt that no job of this process has: of `there`, the numbers of attempts in the cluster,
    /// the highest; otherwise a new one.
    pub(crate) fn claim(&self, order: &OrderId, part: Part, there: &[u32]) -> Claim {
        let mut known = self.lock();
        let attempt = |number| Attempt { order: order.clone(), part, number };
        let is_free = |number: &u32| !known.states.contains_key(&attempt(*number));
        let mine = known.states.keys().filter(|known| known.order == *order && known.part == part);
        let highest = mine.map(|attempt| attempt.number).chain(there.iter().copied()).max().unwrap_or(0);
        let number = there.iter().copied().filter(is_free).max().unwrap_or(highest + 1);
        let attempt = attempt(number);
        known.states.insert(attempt.clone(), State::Live);
        known.strangers.remove(&attempt.name());
        Claim { claims: self.clone(), attempt }
    }

    /// Of the names of objects in the cluster, those to remove now.
    pub(crate) fn to_remove(&self, there: &[String]) -> Vec<String> {
        let (now, mut known) = (Instant::now(), self.lock());
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let names: BTreeMap<String, State> =
            known.states.iter().map(|(attempt, state)| (attempt.name(), *state)).collect();
        let mut remove = Vec::new();
        let mut strangers = BTreeMap::new();
        for name in there {
            let is_due = match names.get(name) {
                Some(State::Live) => false,
                Some(State::Left(_)) => true,
                Some(State::Done(since)) => is_over(*since, LINGER),
                None => {
                    let since = known.strangers.get(name).copied().unwrap_or(now);
                    strangers.insert(name.clone(), since);
                    is_over(since, UNCLAIMED)
                }
            };
            if is_due {
                remove.push(name.clone());
            }
        }
        known.strangers = strangers;
        known.states.retain(|attempt, state| match state {
            State::Live => true,
            State::Done(since) | State::Left(since) => {
                !is_over(*since, FORGOTTEN) || there.contains(&attempt.name())
            }
        });
        remove
    }
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_request;
    use edgewright_model::spec::Lane;

    use super::*;

    fn order(node: &str) -> OrderId {
        OrderId::of(&image_request(1, node).unwrap(), "plant", "image")
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_of_an_earlier_process_are_found_again() {
        let (claims, hmi) = (Claims::default(), order("hmi"));
        let first = claims.claim(&hmi, Part::Job, &[1, 2]);
        assert_eq!(first.attempt().number, 2, "the newest attempt");
        // Equal work at the same time has objects of its own; lanes and other orders have other names.
        assert_eq!(claims.claim(&hmi, Part::Job, &[2]).attempt().number, 3);
        assert_eq!(claims.claim(&hmi, Part::Lane(Lane::Container), &[]).attempt().number, 1);
        assert_eq!(claims.claim(&order("edge"), Part::Job, &[]).attempt().number, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn objects_are_removed_when_no_job_needs_them() {
        let (claims, hmi) = (Claims::default(), order("hmi"));
        let names = |numbers: &[u32]| -> Vec<String> {
            let attempt = |number| Attempt { order: hmi.clone(), part: Part::Job, number };
            numbers.iter().map(|number| attempt(*number).name()).collect()
        };
        let live = claims.claim(&hmi, Part::Job, &[]);
        let there = names(&[1, 7]);
        assert!(claims.to_remove(&there).is_empty(), "one is live, one may be claimed");
        live.done();
        tokio::time::advance(LINGER).await;
        assert_eq!(claims.to_remove(&there), names(&[1]));
        tokio::time::advance(UNCLAIMED).await;
        assert_eq!(claims.to_remove(&names(&[7])), names(&[7]), "no job came for it");
        // What was dropped is removed at once; its number is not free yet.
        let dropped = claims.claim(&hmi, Part::Job, &[]);
        assert_eq!(dropped.attempt().number, 1, "the first one is forgotten");
        drop(dropped);
        assert_eq!(claims.to_remove(&names(&[1])), names(&[1]));
        assert_eq!(claims.claim(&hmi, Part::Job, &[1]).attempt().number, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_comes_late_keeps_its_object() {
        let (claims, hmi) = (Claims::default(), order("hmi"));
        let name = Attempt { order: hmi.clone(), part: Part::Job, number: 4 }.name();
        assert!(claims.to_remove(std::slice::from_ref(&name)).is_empty());
        tokio::time::advance(UNCLAIMED.checked_sub(Duration::from_secs(1)).unwrap()).await;
        let claim = claims.claim(&hmi, Part::Job, &[4]);
        tokio::time::advance(UNCLAIMED).await;
        assert!(claims.to_remove(&[name]).is_empty());
        claim.done();
    }
}
