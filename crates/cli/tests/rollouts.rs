//! `rollout simulate` on the files of a source.

#![expect(clippy::unwrap_used, reason = "a test ends where an assumption does not hold")]

use std::path::Path;

use edgewright_api::documents::RolloutSimulation;
use edgewright_process::{Command, Output};

const SOURCE: &str = r"
edgewright: 1
name: t
channels:
  stable: {follows: default-branch, rollout: careful}
rollouts:
  careful:
    stages:
      - {name: canary, per_site: 1, soak: 1h, approval: true}
    group: pair
";

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn simulate(folder: &Path, arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_edgewright")).args(["rollout", "simulate"]);
    command.args(arguments.iter().copied()).cwd(folder).env("HOME", folder).run_status().await.unwrap().output
}

#[tokio::test]
async fn a_release_is_simulated_on_the_slots_of_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "edgewright.yaml", SOURCE);
    write(
        folder,
        "images/x/image.yaml",
        "from: scratch\nper: site\nsteps: [{files: {path: files}}]\ntest: none\n",
    );
    write(folder, "images/x/files/etc/x", "x\n");
    for site in 0..4 {
        let slot = |slot| {
            format!("  - {{id: m{slot}, image: x, channel: stable, labels: {{pair: p{}}}}}\n", slot / 2)
        };
        let slots: String = (0..10).map(slot).collect();
        write(folder, &format!("sites/s{site}/site.yaml"), &format!("id: s-{site}\nslots:\n{slots}"));
    }
    Command::new("git").args(["init", "--quiet"]).cwd(folder).env("HOME", folder).run().await.unwrap();

    let options = ["--runs", "5", "--failing", "0", "--failing", "50", "--json"];
    let one = simulate(folder, &options).await;
    let report: RolloutSimulation = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((report.devices, report.sites), (40, 4));
    let [good, bad] = &report.rates[..] else { panic!("{:?}", report.rates) };
    assert_eq!((good.stopped, good.stages[1].reached, bad.stopped), (0, 5, 5));
    assert!(good.median_offered > 35 && bad.median_offered < 10, "{good:?} {bad:?}");
    assert_eq!(simulate(folder, &options).await.stdout, one.stdout, "equal seeds, equal results");

    let other = simulate(folder, &["--channel", "beta"]).await;
    assert!(other.stderr_tail.concat().contains("there is no channel `beta`"), "{other:?}");
}
