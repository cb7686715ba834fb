//! Lots: which devices come first. Each release draws again, so that no device is the canary for ever.

use sha2::{Digest as _, Sha256};

/// The lot of a device in a rollout; smaller ones come first. `salt` is the rollout's own.
pub fn lot(salt: &str, device: &str) -> u64 {
    let hash = Sha256::digest(format!("{}:{salt}{device}", salt.len()));
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_even_and_change_with_the_salt() {
        let first = |salt: &str| {
            let mut devices: Vec<String> = (0..1000).map(|number| format!("press-{number}")).collect();
            devices.sort_by_key(|device| lot(salt, device));
            devices.truncate(100);
            devices
        };
        let (one, other) = (first("1"), first("2"));
        let both = one.iter().filter(|device| other.contains(device)).count();
        assert!((2..=25).contains(&both), "{both} of 100 came first twice");
        let half = (0..1000).filter(|number| lot("a", &format!("{number}")) < u64::MAX / 2).count();
        assert!((420..=580).contains(&half), "{half} of 1000 are in the lower half");
        assert_ne!(lot("1", "2a"), lot("12", "a"));
    }
}
