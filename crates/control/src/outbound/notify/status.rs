//! Commit statuses of forges: a run's state beside its commit.
//!
//! | forge | request |
//! |---|---|
//! | GitHub | `POST /repos/OWNER/NAME/statuses/SHA`, `Authorization: Bearer` |
//! | Gitea, Forgejo | `POST /repos/OWNER/NAME/statuses/SHA`, `Authorization: token` |
//! | GitLab | `POST /projects/OWNER%2FNAME/statuses/SHA`, `PRIVATE-TOKEN` |

use edgewright_model::run::{RunState, Trigger};
use edgewright_store::outbox::EventRow;
use reqwest::{Client, RequestBuilder, header};
use serde_json::json;

use super::{Sink, SinkKind};

/// GitHub cuts descriptions here; the others take more.
const LONGEST_DESCRIPTION: usize = 140;

/// None where the event is not worth a status.
pub(super) fn request(sink: &Sink, client: &Client, row: &EventRow) -> Option<RequestBuilder> {
    if row.kind != "run" {
        return None;
    }
    let text = |name: &str| row.data.get(name).and_then(serde_json::Value::as_str);
    let state = word(sink.kind, text("state")?.parse().ok()?)?;
    let (commit, run) = (text("commit")?, row.data.get("run")?.as_u64()?);
    let repository = sink.repository.as_deref()?;
    let description = description(text("summary"), text("failure"), text("state")?);
    let target = format!("{}/api/v1/runs/{run}", sink.link);
    // A run that tests an update decides nothing about its commit.
    let is_update = text("trigger") == Some(Trigger::Update.name());
    let context = format!("edgewright/{}{}", row.source, if is_update { "/update" } else { "" });
    let post = |path: String| client.post(format!("{}/{path}", sink.url));
    let (request, body) = if sink.kind == SinkKind::Gitlab {
        let project = repository.replace('/', "%2F");
        let body =
            json!({ "state": state, "name": context, "description": description, "target_url": target });
        (post(format!("projects/{project}/statuses/{commit}")), body)
    } else {
        let body =
            json!({ "state": state, "context": context, "description": description, "target_url": target });
        (post(format!("repos/{repository}/statuses/{commit}")), body)
    };
    let request = request.header(header::ACCEPT, "application/json").json(&body);
    Some(match (&sink.token, sink.kind) {
        (None, _) => request,
        (Some(token), SinkKind::Gitlab) => request.header("PRIVATE-TOKEN", token),
        (Some(token), SinkKind::Gitea) => request.header(header::AUTHORIZATION, format!("token {token}")),
        (Some(token), _) => request.bearer_auth(token),
    })
}

/// The forge's word for a run's state; none for states that last a moment.
const fn word(kind: SinkKind, state: RunState) -> Option<&'static str> {
    let gitlab = matches!(kind, SinkKind::Gitlab);
    Some(match state {
        RunState::Running if gitlab => "running",
        RunState::Queued | RunState::Running => "pending",
        RunState::Passed => "success",
        RunState::Failed if gitlab => "failed",
        RunState::Failed => "failure",
        RunState::Cancelled | RunState::Superseded if gitlab => "canceled",
        RunState::Cancelled | RunState::Superseded => "error",
        RunState::Preparing | RunState::Releasing => return None,
    })
}

/// The plan in one line, after why the run failed as a whole.
fn description(summary: Option<&str>, failure: Option<&str>, state: &str) -> String {
    let text = failure.or(summary).unwrap_or(state);
    if text.chars().count() <= LONGEST_DESCRIPTION {
        return text.to_owned();
    }
    text.chars().take(LONGEST_DESCRIPTION - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(kind: SinkKind, state: &str, trigger: &str) -> Option<reqwest::Request> {
        let sink = Sink {
            name: "forge".to_owned(),
            kind,
            url: "https://forge.example/api".to_owned(),
            mode: super::super::EventMode::default(),
            types: Vec::new(),
            source: Some("plants".parse().unwrap()),
            repository: Some("ops/plants".to_owned()),
            token: Some("s3cret".to_owned()),
            link: "http://edge.example".to_owned(),
        };
        assert!(!format!("{sink:?}").contains("s3cret"));
        let row = EventRow {
            id: 1,
            at: "2026-11-22T23:00:00Z".parse().unwrap(),
            kind: "run".to_owned(),
            source: "plants".parse().unwrap(),
            subject: "plants/runs/7".to_owned(),
            data: json!({ "run": 7, "state": state, "commit": "abc", "summary": "builds 1 of 5", "failure": null,
                "trigger": trigger }),
        };
        request(&sink, &Client::new(), &row).map(|request| request.build().unwrap())
    }

    #[test]
    fn a_test_of_an_update_has_a_status_of_its_own() {
        let request = sent(SinkKind::Github, "failed", "update").unwrap();
        let body: serde_json::Value =
            serde_json::from_slice(request.body().unwrap().as_bytes().unwrap()).unwrap();
        assert_eq!(body["context"], "edgewright/plants/update");
    }

    #[test]
    fn each_forge_gets_its_own_words() {
        let cases = [
            (
                SinkKind::Github,
                "repos/ops/plants/statuses/abc",
                "authorization",
                "Bearer s3cret",
                "context",
                "failure",
            ),
            (
                SinkKind::Gitea,
                "repos/ops/plants/statuses/abc",
                "authorization",
                "token s3cret",
                "context",
                "failure",
            ),
            (
                SinkKind::Gitlab,
                "projects/ops%2Fplants/statuses/abc",
                "private-token",
                "s3cret",
                "name",
                "failed",
            ),
        ];
        for (kind, path, header, credentials, context, failed) in cases {
            let request = sent(kind, "failed", "commit").unwrap();
            assert_eq!(request.url().as_str(), format!("https://forge.example/api/{path}"));
            assert_eq!(request.headers()[header], credentials);
            let body: serde_json::Value =
                serde_json::from_slice(request.body().unwrap().as_bytes().unwrap()).unwrap();
            let expected = json!({
                "state": failed,
                context: "edgewright/plants",
                "description": "builds 1 of 5",
                "target_url": "http://edge.example/api/v1/runs/7",
            });
            assert_eq!(body, expected);
            assert!(
                sent(kind, "preparing", "commit").is_none() && sent(kind, "releasing", "commit").is_none()
            );
        }
    }

    #[test]
    fn descriptions_are_cut_at_characters() {
        assert_eq!(description(None, None, "queued"), "queued");
        assert_eq!(description(Some("plan"), Some("why"), "failed"), "why");
        let long = description(Some(&"ä".repeat(200)), None, "queued");
        assert_eq!((long.chars().count(), long.ends_with('…')), (140, true));
    }
}
