//! What the agent reports about its device: `edgewright-agent status --json`. Pure. Guests are hostile: what
//! they report decides about their own verdict only.

use edgewright_model::Digest;
use serde::Deserialize;

use super::Seen;

/// The parts of the status that a lane reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    state: State,
    deployments: Deployments,
    problem: Option<Problem>,
    failed: Vec<Failed>,
    is_running: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct State {
    state: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Deployments {
    booted: Option<Deployment>,
}

#[derive(Debug, Clone, Deserialize)]
struct Deployment {
    digest: Digest,
    #[serde(default)]
    tries_left: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Problem {
    message: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Failed {
    digest: Digest,
    #[serde(default)]
    reason: Reason,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Reason {
    kind: String,
    message: Option<String>,
}

impl Status {
    /// Reads what the agent printed; none if it is no status.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The digest that runs.
    pub fn booted(&self) -> Option<&Digest> {
        Some(&self.deployments.booted.as_ref()?.digest)
    }

    /// Whether the agent is done with what it did, and the boot loader with its trial.
    fn rests(&self) -> bool {
        let is_on_trial = self.deployments.booted.as_ref().is_some_and(|booted| booted.tries_left.is_some());
        let at_rest = matches!(self.state.state.as_str(), "idle" | "confirmed" | "held_back");
        self.is_running && at_rest && !is_on_trial
    }

    /// Whether this digest runs, is good, and nothing is under way.
    pub fn rests_on(&self, digest: &Digest) -> bool {
        self.rests() && self.booted() == Some(digest)
    }

    /// Why a digest counts as failed on the device; none if it does not.
    pub fn failed(&self, digest: &Digest) -> Option<String> {
        let failed = self.failed.iter().find(|failed| failed.digest == *digest)?;
        Some(match (&failed.reason.message, failed.reason.kind.as_str()) {
            (Some(message), _) => message.clone(),
            (None, "fell_back") => "it did not start, or was not confirmed in time".to_owned(),
            (None, "") => "without a reason".to_owned(),
            (None, kind) => kind.to_owned(),
        })
    }

    /// What does not work at the moment.
    pub fn problem(&self) -> Option<&str> {
        Some(self.problem.as_ref()?.message.as_str())
    }

    /// In short, for messages.
    pub fn describe(&self) -> String {
        let booted = self.booted().map_or("nothing that it installed", Digest::short);
        let problem = self.problem().map(|problem| format!(": {problem}")).unwrap_or_default();
        let state = if self.state.state.is_empty() { "silent" } else { self.state.state.as_str() };
        format!("it is {state} on {booted}{problem}")
    }
}

/// Whether a device is where its update must end. `is_bad`: what it was offered cannot become good.
pub fn arrived(status: &Status, ends_on: &Digest, target: &Digest, is_bad: bool) -> Seen {
    match (status.failed(target), is_bad) {
        (Some(_), true) | (None, false) if status.rests_on(ends_on) => Seen::Reached,
        (Some(reason), false) => Seen::Failed(format!("the device went back to the image before: {reason}")),
        (None, true) if status.rests_on(target) => {
            Seen::Failed("the device kept a successor whose boot fails: nothing brought it back".to_owned())
        }
        _ => Seen::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, booted: &Digest, tries: &str) -> Status {
        let text = format!(
            r#"{{"version":1,"device":"d","state":{{"state":"{state}","update":{{}}}},"is_running":true,
                 "deployments":{{"booted":{{"digest":"{booted}","verity":true,"tries_left":{tries}}}}},
                 "problem":null,"failed":[{{"digest":"{}","reason":{{"kind":"unhealthy","message":"checks failed"}}}}]}}"#,
            Digest::of("bad")
        );
        Status::parse(&text).unwrap()
    }

    #[test]
    fn a_device_rests_once_its_boot_is_blessed() {
        let good = Digest::of("good");
        assert!(status("confirmed", &good, "null").rests_on(&good));
        assert!(!status("confirmed", &good, "2").rests_on(&good));
        assert!(!status("checking_health", &good, "null").rests_on(&good));
        assert!(!status("idle", &good, "null").rests_on(&Digest::of("other")));
        let refused = status("held_back", &good, "null");
        assert_eq!(refused.failed(&Digest::of("bad")).unwrap(), "checks failed");
        assert_eq!(refused.failed(&good), None);
        assert!(refused.describe().starts_with("it is held_back on "));
    }

    #[test]
    fn what_is_no_status_is_none() {
        assert!(Status::parse("").is_none() && Status::parse("[1]").is_none());
        assert!(!Status::parse("{}").unwrap().rests_on(&Digest::of("x")));
    }

    fn on(booted: &Digest, failed: Option<&Digest>) -> Status {
        let failed =
            failed.map(|digest| format!(r#"{{"digest":"{digest}","reason":{{"kind":"fell_back"}}}}"#));
        let text = format!(
            r#"{{"state":{{"state":"confirmed"}},"is_running":true,"deployments":{{"booted":{{"digest":"{booted}"}}}},
                 "failed":[{}]}}"#,
            failed.unwrap_or_default()
        );
        Status::parse(&text).unwrap()
    }

    #[test]
    fn a_device_arrives_where_its_lane_ends() {
        let (good, next) = (Digest::of("good"), Digest::of("next"));
        let arrived = |status: &Status, ends_on, is_bad| arrived(status, ends_on, &next, is_bad);
        assert!(matches!(arrived(&on(&good, None), &next, false), Seen::NotYet));
        assert!(matches!(arrived(&on(&next, None), &next, false), Seen::Reached));
        assert!(matches!(arrived(&on(&good, Some(&next)), &next, false), Seen::Failed(_)));
        assert!(matches!(arrived(&on(&good, None), &good, true), Seen::NotYet));
        assert!(matches!(arrived(&on(&next, None), &good, true), Seen::Failed(_)));
        assert!(matches!(arrived(&on(&good, Some(&next)), &good, true), Seen::Reached));
    }
}
