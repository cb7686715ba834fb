//! The adapter against documents in bootc's published formats, and against a shell script that behaves as its
//! manual pages describe: the real program needs a device that it installed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use edgewright_oci::ManifestBytes;

use super::*;

const OLD: &str = "sha256:736b359467c9437c1ac915acaae952aad854e07eb4a16a94999a48af08c83c34";
const NEW: &str = "sha256:16dc2b6256b4ff0d2ec18d2dbfb06d117904010c8cf9732cdb022818cf7a7566";

fn entry(digest: &str, more: &str) -> String {
    format!(
        r#"{{"image":{{"image":{{"image":"quay.io/example/someimage:latest","transport":"registry"}},
        "version":"nightly","timestamp":"2023-10-14T19:22:15Z","imageDigest":"{digest}","architecture":"arm64"}},
        "cachedUpdate":null,"incompatible":false,"pinned":false,{more}
        "ostree":{{"stateroot":"default","checksum":"3c6dad65","deploySerial":0}}}}"#
    )
}

fn host(staged: &str, rollback: &str, queued: bool) -> String {
    let booted = entry(OLD, "");
    format!(
        r#"{{"apiVersion":"org.containers.bootc/v1","kind":"BootcHost","metadata":{{"name":"host"}},
        "spec":{{"image":null,"bootOrder":"default"}},"status":{{"staged":{staged},"booted":{booted},
        "rollback":{rollback},"rollbackQueued":{queued},"type":"bootcHost","aKeyOfLater":[]}}}}"#
    )
}

#[test]
fn the_published_formats_are_read() {
    for (more, is_next) in
        [("", true), (r#""downloadOnly":true,"#, false), (r#""finalizationLocked":true,"#, false)]
    {
        let text = host(&entry(NEW, more), "null", false);
        let found = Host::parse(text.as_bytes()).unwrap().deployments();
        let staged = found.staged.unwrap();
        assert_eq!((staged.digest.to_string().as_str(), staged.is_next), (NEW, is_next), "{more}");
        let booted = found.booted.unwrap();
        assert_eq!((booted.digest.to_string().as_str(), booted.is_next), (OLD, !is_next));
        assert_eq!(booted.reference.as_deref(), Some("quay.io/example/someimage:latest"));
        assert_eq!(booted.entry.as_deref(), Some("3c6dad65.0"));
    }
    let back = Host::parse(host("null", &entry(NEW, ""), true).as_bytes()).unwrap();
    assert!(back.is_rollback_queued() && back.deployments().fallback.unwrap().is_next);

    // The composefs backend; a machine without bootc; other documents.
    let composefs = r#"{"kind":"BootcHost","status":{"booted":{"image":{"image":{"image":"/x","transport":"oci"},
        "imageDigest":"sha256:16dc2b6256b4ff0d2ec18d2dbfb06d117904010c8cf9732cdb022818cf7a7566"},
        "composefs":{"verity":"abc","bootType":"Bls"}}}}"#;
    let booted = Host::parse(composefs.as_bytes()).unwrap().deployments().booted.unwrap();
    assert!(booted.verity && booted.reference.as_deref() == Some("oci:/x"), "{booted:?}");
    let none =
        Host::parse(br#"{"kind":"BootcHost","spec":{"image":null},"status":{"staged":null,"booted":null}}"#);
    assert_eq!(none.unwrap().deployments(), Deployments::default());
    for bad in ["", "[]", "{}", r#"{"kind":"Pod"}"#] {
        assert!(Host::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// A `bootc` with the three deployments of a real one, in a folder.
fn fake(folder: &Path) -> Bootc {
    let script = format!(
        r#"#!/bin/sh
cd {folder} || exit 1
echo "$*" >> calls
entry() {{
  [ -s "$1" ] || {{ printf null; return; }}
  printf '{{"image":{{"image":{{"image":"r.example/a/b:stable","transport":"registry"}},"imageDigest":"%s"}},"downloadOnly":%s}}' "$(cat $1)" "$(cat $1.locked 2>/dev/null || printf false)"
}}
case "$1 $2" in
  "status --json")
    printf '{{"kind":"BootcHost","status":{{"staged":%s,"booted":%s,"rollback":%s,"rollbackQueued":%s}}}}' \
      "$(entry staged)" "$(entry booted)" "$(entry rollback)" "$(cat queued 2>/dev/null || printf false)" ;;
  "switch --download-only")
    [ -e old ] && {{ echo "error: unexpected argument '--download-only' found" >&2; exit 2; }}
    printf true > staged.locked; printf '%s' "${{4##*@}}" > staged ;;
  "upgrade --from-downloaded") printf false > staged.locked ;;
  "rollback ") [ "$(cat queued 2>/dev/null)" = true ] && printf false > queued || printf true > queued ;;
  *) echo "unknown: $*" >&2; exit 2 ;;
esac
"#,
        folder = folder.display()
    );
    let program = folder.join("bootc");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("booted"), OLD).unwrap();
    Bootc::new(program)
}

fn image(digest: &str) -> Image {
    Image {
        reference: "r.example/a/b:stable".parse().unwrap(),
        manifest: ManifestBytes {
            media_type: edgewright_oci::media::MANIFEST.to_owned(),
            digest: digest.parse().unwrap(),
            bytes: "{}".into(),
        },
        config: "{}".into(),
        index: None,
        layout: "/nonexistent".into(),
    }
}

#[tokio::test]
async fn an_update_is_staged_locked_then_armed() {
    let folder = tempfile::tempdir().unwrap();
    let bootc = fake(folder.path());
    let new = NEW.parse().unwrap();
    assert!(matches!(bootc.arm(&new).await, Err(UpdateError::NotStaged { .. })));
    assert!(bootc.missing(&image(NEW)).await.unwrap().is_empty());
    for _ in 0..2 {
        bootc.stage(&image(NEW), &Progress::quiet()).await.unwrap();
    }
    assert!(!bootc.status().await.unwrap().staged.unwrap().is_next);
    for _ in 0..2 {
        bootc.arm(&new).await.unwrap();
    }
    assert!(bootc.status().await.unwrap().staged.unwrap().is_next);
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    let count = |text: &str| calls.lines().filter(|line| line.starts_with(text)).count();
    assert_eq!((count("switch"), count("upgrade")), (1, 1), "{calls}");
    assert!(calls.contains(&format!("switch --download-only --quiet r.example/a/b@{NEW}")), "{calls}");
}

#[tokio::test]
async fn a_roll_back_is_queued_once() {
    let folder = tempfile::tempdir().unwrap();
    let bootc = fake(folder.path());
    assert!(matches!(bootc.roll_back().await, Err(UpdateError::NoFallback)));
    std::fs::write(folder.path().join("rollback"), NEW).unwrap();
    for _ in 0..2 {
        bootc.roll_back().await.unwrap();
        assert!(bootc.status().await.unwrap().fallback.unwrap().is_next);
    }
}

#[tokio::test]
async fn an_old_bootc_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bootc = fake(folder.path());
    std::fs::write(folder.path().join("old"), "").unwrap();
    let error = bootc.stage(&image(NEW), &Progress::quiet()).await.unwrap_err();
    assert!(error.to_string().contains("install a newer bootc"), "{error}");
}
