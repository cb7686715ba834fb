//! The reference of events: CloudEvents that sinks receive, and server-sent events of the API.
//!
//! Triggers of control's database write the events, so the fields are compared with the triggers' own
//! `json_object`.

use edgewright_control::outbound::notify::event_type;

/// One kind of event.
struct Event {
    /// The kind in the outbox; the CloudEvents type follows from it.
    kind: &'static str,
    subject: &'static str,
    when: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

const STATE: (&str, &str) = ("state", "string: the new state");
const PREVIOUS: (&str, &str) = ("previous", "string or null: the state before");
const RUN: (&str, &str) = ("run", "integer: number of the run");

const EVENTS: [Event; 7] = [
    Event {
        kind: "run",
        subject: "SOURCE/runs/N",
        when: "A run was queued, or its state changed.",
        fields: &[
            RUN,
            ("branch", "string: branch of the commit"),
            ("commit", "string: commit id, 40 hexadecimal digits"),
            ("subject", "string: first line of the commit message"),
            ("trigger", "string: what started the run"),
            STATE,
            PREVIOUS,
            ("summary", "string or null: the plan in one line"),
            ("failure", "string or null: why the run failed as a whole"),
            ("release", "integer or null: number of its release"),
        ],
    },
    Event {
        kind: "node",
        subject: "SOURCE/runs/N/nodes/NODE",
        when: "The state of a node in a run's plan changed.",
        fields: &[
            RUN,
            ("node", "string: name of the node, such as `hmi/plant-a`"),
            ("platform", "string: such as `linux/amd64`"),
            ("variant", "string or null: the variant that the node builds; null for a shared prefix"),
            ("action", "string: `build`, `test`, `reuse`, `retire` or `blocked`"),
            ("reason", "string: why the plan contains the node"),
            STATE,
            PREVIOUS,
            ("attempts", "integer: failed attempts so far"),
            ("digest", "string or null: digest of the manifest that was built"),
            ("failure", "object or null: `kind`, `phase`, `message`, `hint` and `output`"),
        ],
    },
    Event {
        kind: "verdict",
        subject: "SOURCE/runs/N/nodes/NODE",
        when: "A node began to wait for the verdict of another system.",
        fields: &[
            RUN,
            ("node", "string: name of the node, such as `hmi/plant-a`"),
            ("platform", "string: such as `linux/amd64`"),
            ("variant", "string: the variant"),
            ("digest", "string: digest of the manifest to test"),
            ("lane", "string: `external`"),
            ("check_set", "string: digest of the check set that the verdict is requested for"),
            ("until", "string: time after which the node fails without a verdict"),
        ],
    },
    Event {
        kind: "release",
        subject: "SOURCE/releases/N",
        when: "A release was made.",
        fields: &[
            ("release", "integer: number of the release"),
            RUN,
            ("branch", "string: branch of the commit"),
            ("commit", "string: commit id, 40 hexadecimal digits"),
        ],
    },
    Event {
        kind: "channel",
        subject: "SOURCE/channels/NAME",
        when: "A channel moved, got a new target, or was held, resumed, pinned or unpinned.",
        fields: &[
            ("channel", "string: name of the channel"),
            ("target", "integer or null: release that the channel moves to"),
            ("release", "integer or null: release that the channel points to"),
            ("previous", "integer or null: release that it pointed to before"),
            ("hold", "string or null: why the channel is held"),
            ("pin", "integer or null: release that an operator pinned the channel to"),
        ],
    },
    Event {
        kind: "rollout",
        subject: "SOURCE/rollouts/N",
        when: "A rollout began, another stage opened, or its state changed.",
        fields: &[
            ("rollout", "integer: number of the rollout"),
            ("channel", "string: name of the channel"),
            ("release", "integer: release that its devices get"),
            ("before", "integer or null: release that the channel had completed"),
            ("kind", "string: `release` or `rollback`"),
            ("stage", "integer: the stage that is open, from 0; after the last one: all other devices"),
            (
                "state",
                "string: `active`, `paused`, `stopped`, `aborted`, `superseded`, `rolled_back` or `complete`",
            ),
            PREVIOUS,
            ("reason", "string: why the channel takes the release"),
        ],
    },
    Event {
        kind: "target",
        subject: "SOURCE/targets/TARGET/CHANNEL",
        when: "The state of a channel's copy in an external registry changed.",
        fields: &[
            ("target", "string: name of the target"),
            ("channel", "string: name of the channel"),
            ("release", "integer: number of the release"),
            STATE,
            PREVIOUS,
            ("failures", "integer: failed attempts in a row"),
            ("error", "string or null: why the last attempt failed"),
        ],
    },
];

const SERVER_SENT_EVENTS: &str = "
## Server-sent events

`GET /api/v1/events` streams an event whenever the state of a run changes, from the time of the request on. The stream ends at \
shutdown, and for a client that does not read fast enough: reconnect, then read `/api/v1/runs`.

### `run`

The state of a run changed.

";

/// The page, in Markdown without line breaks inside of paragraphs.
pub(super) fn page() -> Result<String, String> {
    let mut page = Vec::new();
    for Event { kind, subject, when, fields } in &EVENTS {
        page.push(format!("\n### `{}`\n\n{when}\n\n- `subject`: `{subject}`\n", event_type(kind)));
        page.extend(fields.iter().map(|(name, about)| format!("- `data.{name}`, {about}\n")));
    }
    page.push(SERVER_SENT_EVENTS.to_owned());
    let document = edgewright_api::openapi::document();
    let properties = document["components"]["schemas"]["RunStateChanged"]["properties"].as_object();
    for (name, property) in properties.ok_or("the OpenAPI document has no schema `RunStateChanged`")? {
        let about = property["description"].as_str().unwrap_or_default();
        let kind = property["type"].as_str().unwrap_or_default();
        if about.is_empty() || kind.is_empty() {
            return Err(format!("the field `{name}` of `RunStateChanged` has no description or type"));
        }
        page.push(format!("- `data.{name}`, {kind}: {about}\n"));
    }
    Ok(page.concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The fields of each kind of event that the newest triggers write.
    fn written() -> BTreeMap<String, Vec<String>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/migrations");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let sql: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let mut triggers = BTreeMap::new();
        for trigger in sql.split("CREATE TRIGGER ").skip(1) {
            let name = trigger.split_whitespace().next().unwrap();
            let Some((body, _)) = trigger.split_once("END;") else { continue };
            let Some((_, insert)) = body.split_once("INSERT INTO events") else { continue };
            let kind = insert.split("SELECT '").nth(1).unwrap().split('\'').next().unwrap();
            let (_, object) = insert.split_once("json_object(").unwrap();
            let fields = object.split('\'').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            triggers.insert(name.to_owned(), (kind.to_owned(), fields));
        }
        triggers.into_values().collect()
    }

    #[test]
    fn the_reference_lists_exactly_the_events_and_fields_that_triggers_write() {
        let written = written();
        let described: BTreeMap<String, Vec<String>> = EVENTS
            .iter()
            .map(|event| {
                let fields = event.fields.iter().map(|(name, _)| (*name).to_owned());
                (event.kind.to_owned(), fields.collect())
            })
            .collect();
        assert_eq!(described, written);
    }

    #[test]
    fn the_page_has_types_and_server_sent_events() {
        let page = page().unwrap();
        assert!(page.contains("### `dev.edgewright.channel.moved`\n"), "{page}");
        assert!(page.contains("- `data.run`, integer: "), "{page}");
    }
}
