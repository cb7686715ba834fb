//! `kill -9` at random moments: the end is the same as that of a server that nobody disturbed, and no job whose success
//! was recorded runs again.
//!
//! `EDGEWRIGHT_KILLS=50` makes it 50 rounds; `EDGEWRIGHT_SEED` repeats what a failed test printed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::Duration;

use edgewright_api::RunView;
use edgewright_model::run::{NodeState, RunState};
use rustix::process::{Signal, kill_process};

use crate::server::{Server, assert_clean, marked};
use crate::world::{Repository, edgewright, told};

/// Rounds where nobody asks for more.
const ROUNDS: u32 = 8;
/// Kills of servers within one round, at most.
const KILLS: u64 = 3;
/// About how long a round takes without a kill; in milliseconds.
const ROUND_MS: u64 = 900;

/// Numbers that look random and can be had again (xorshift).
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = told("EDGEWRIGHT_SEED")
            .map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
        eprintln!("EDGEWRIGHT_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One commit's change: of everything, of one role, of one site, or a new site.
fn change(repository: &Repository, round: u32, random: &mut Random) {
    let text = format!("round {round}\n");
    match random.below(4) {
        0 => repository.write("images/base/files/etc/base", text),
        1 => repository.write("images/hmi/files/etc/hmi", text),
        2 => repository.write("sites/a/files/etc/site", text),
        _ => repository.site(&format!("n{round}")),
    }
}

/// The nodes whose success is recorded, each with its job.
async fn recorded(folder: &Path, run: &str) -> BTreeMap<String, (String, u64)> {
    // The server is dead: the command reads the database.
    let shown = edgewright(folder, &["run", "show", run, "--json"]).await;
    if shown.code == 3 {
        return BTreeMap::new();
    }
    let shown = shown.ends(0).json();
    let passed = shown["nodes"].as_array().unwrap().iter().filter(|node| node["state"] == "passed");
    passed
        .map(|node| {
            let text = |field: &str| node[field].as_str().unwrap().to_owned();
            (text("node"), (text("job"), node["attempts"].as_u64().unwrap()))
        })
        .collect()
}

fn jobs(view: &RunView) -> BTreeMap<String, (String, u64)> {
    let passed = view.nodes.iter().filter(|node| node.state == NodeState::Passed);
    passed
        .map(|node| (node.node.clone(), (node.job.unwrap().to_string(), u64::from(node.attempts))))
        .collect()
}

#[tokio::test]
async fn kills_at_random_moments_change_nothing() {
    let rounds = told("EDGEWRIGHT_KILLS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut random = Random::seeded();
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a", "b", "c"]).await;
    let source = ["--source", repository.url()];
    let twin = Server::start(&folder.path().join("twin"), &source).await;
    let data = folder.path().join("data");
    let mut server = Server::start(&data, &source).await;
    for round in 1..=rounds {
        change(&repository, round, &mut random);
        let commit = repository.commit(&format!("round {round}")).await;
        let calm = twin.builds(&commit).await;
        assert_eq!(calm.run.state, RunState::Passed);

        server.poll().await;
        let mut done = BTreeMap::new();
        for _ in 0..=random.below(KILLS) {
            tokio::time::sleep(Duration::from_millis(random.below(ROUND_MS))).await;
            match random.below(5) {
                0 => {
                    // One job: the server tries it again by itself.
                    if let Some(pid) = marked(&data).pop() {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                    continue;
                }
                1 | 2 => server.kill_all(),
                _ => server.kill(),
            }
            let number = calm.run.number.to_string();
            for (node, job) in recorded(folder.path(), &number).await {
                let before = done.insert(node.clone(), job.clone());
                assert!(before.is_none_or(|before| before == job), "round {round}: {node} ran again");
            }
            server = Server::start(&data, &source).await;
        }
        let disturbed = server.builds(&commit).await;
        assert_eq!(disturbed.run.state, RunState::Passed, "round {round}: {disturbed:#?}");
        assert_eq!(
            disturbed.run.number, calm.run.number,
            "round {round}: a commit became another number of runs"
        );
        let ran = jobs(&disturbed);
        for (node, job) in &done {
            assert_eq!(ran.get(node), Some(job), "round {round}: {node} ran again");
        }
        let names: Vec<_> = ran.keys().cloned().collect();
        assert_eq!(names, jobs(&calm).into_keys().collect::<Vec<_>>(), "round {round}");
        assert_eq!(server.end_state().await, twin.end_state().await, "round {round}");
        assert_clean(&data).await;
    }
    assert_eq!(server.stop().await, Some(0));
    assert_clean(&data).await;
}
