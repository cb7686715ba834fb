//! `enrol`: exchanges a token for the device's identity, and writes the files that the agent reads.
//!
//! What the device chose for the exchange is stored first: a lost response or a power cut in between costs
//! nothing, because the repeated exchange gives the same device.

use std::path::Path;
use std::process::ExitCode;

use edgewright_api::identity::IdentityFormat;
use edgewright_api::{Client, ClientError, DeviceIdentity, DeviceState, EnrolPost};
use edgewright_model::digest::hex;
use edgewright_model::error::{Chain, ErrorClass};

use super::args::{Cli, EnrolArgs};
use super::exit::Failure;
use crate::blocking::blocking;
use crate::durable;

/// Random bytes of an attempt.
const ATTEMPT_BYTES: usize = 32;
/// The attempt's file in the folder of the agent's state.
const ATTEMPT: &str = "enrolment-attempt";
/// The longest file that is read, in bytes.
const FILE_LIMIT: usize = 1024 * 1024;
/// Mode of secret files.
const PRIVATE: u32 = 0o600;
/// Where firmware shows the serial number of the machine.
const SERIAL: &str = "/sys/class/dmi/id/product_serial";

pub(super) async fn run(cli: &Cli, args: &EnrolArgs) -> Result<ExitCode, Failure> {
    let folder = cli.config.parent().unwrap_or(Path::new("/")).to_owned();
    let (config, state, asked) = (cli.config.clone(), cli.state.clone(), args.clone());
    let (token, authority, attempt, serial) = on_disk(move || prepare(&config, &state, &asked)).await?;
    let client = match &authority {
        Some(pem) => Client::with_authorities(&args.server, pem.as_bytes()),
        None => Client::new(&args.server),
    };
    let post = EnrolPost { token, attempt: Some(attempt), slot: args.slot.clone(), serial };
    let identity = async { client?.enrol(&post).await }.await.map_err(|error| rejected(&error))?;
    let (written, server, config, state) =
        (identity.clone(), args.server.clone(), cli.config.clone(), cli.state.clone());
    let ca_file = args.ca_file.clone();
    on_disk(move || {
        write(&folder, &config, &written, &server, ca_file.as_deref())?;
        durable::remove(&state.join(ATTEMPT))
            .map_err(|error| Failure::unavailable("cannot remove a file", &error))
    })
    .await?;
    report(cli.json, &identity)
}

/// What an enrolment needs: token, authorities, attempt and serial number.
type Prepared = (String, Option<String>, String, Option<String>);

fn prepare(config: &Path, state: &Path, asked: &EnrolArgs) -> Result<Prepared, Failure> {
    if config.exists() && !asked.force {
        let message = format!("{} exists", config.display());
        let hint = "use --force to replace it, or `edgewright device rotate` for another credential";
        return Err(Failure::new(ErrorClass::Conflict, message, Some(hint.to_owned())));
    }
    let token = read(&asked.token_file)?.trim().to_owned();
    let authority = asked.ca_file.as_deref().map(read).transpose()?;
    let serial = asked.serial.clone().or_else(|| Some(read(Path::new(SERIAL)).ok()?.trim().to_owned()));
    let serial = serial.filter(|serial| !serial.is_empty());
    Ok((token, authority, attempt(state)?, serial))
}

fn rejected(error: &ClientError) -> Failure {
    let hint = match error {
        // Those of the client are for operators.
        ClientError::Unreachable { .. } => Some(
            "check the address, the network, this device's clock (`timedatectl`) and --ca-file, and repeat the \
             command: it gives the same device"
                .to_owned(),
        ),
        ClientError::Authorities => Some("name a PEM file with --ca-file".to_owned()),
        _ => error.hint(),
    };
    Failure::new(error.class(), format!("cannot enrol: {}", Chain(error)), hint)
}

/// What the device chose for its exchange; the same until the exchange is done.
fn attempt(state: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::unavailable("cannot store the attempt", &error);
    std::fs::create_dir_all(state).map_err(failed)?;
    let path = state.join(ATTEMPT);
    match std::fs::read_to_string(&path) {
        Ok(known) if known.len() == 2 * ATTEMPT_BYTES => return Ok(known),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut bytes = [0; ATTEMPT_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| failed(std::io::Error::other(error)))?;
    let attempt = hex(&bytes);
    durable::write(&path, attempt.as_bytes(), PRIVATE).map_err(failed)?;
    Ok(attempt)
}

/// Writes the identity's files; the configuration last, because it names the others.
fn write(
    folder: &Path,
    config: &Path,
    identity: &DeviceIdentity,
    server: &str,
    ca_file: Option<&Path>,
) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::unavailable(&format!("cannot write {}", path.display()), error)
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for format in [IdentityFormat::Auth, IdentityFormat::Token, IdentityFormat::Agent] {
        let file = format.file(identity, server);
        let is_config = format == IdentityFormat::Agent;
        let path = if is_config { config.to_owned() } else { folder.join(file.path) };
        let mut content = file.content;
        if let Some(authority) = ca_file.filter(|_| is_config) {
            let authority = std::path::absolute(authority).map_err(|error| failed(authority, &error))?;
            content = format!("ca_file = {:?}\n{content}", authority.display().to_string());
        }
        durable::write(&path, content.as_bytes(), file.mode).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn report(json: bool, identity: &DeviceIdentity) -> Result<ExitCode, Failure> {
    use std::io::Write as _;
    let waits = identity.state == DeviceState::Waiting;
    let text = if json {
        // Everything but the secret.
        serde_json::json!({
            "device": identity.device, "image": identity.image, "site": identity.site, "slot": identity.slot,
            "state": identity.state,
        })
        .to_string()
    } else if waits {
        format!("enrolled as {}: waits for an operator's approval", identity.device)
    } else {
        format!("enrolled as {} in slot {}/{}", identity.device, identity.site, identity.slot)
    };
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|error| Failure::unavailable("cannot print", &error))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(ErrorClass::UserFault, format!("cannot read {}: {error}", path.display()), None)
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    if text.len() > FILE_LIMIT {
        return Err(failed(std::io::Error::other("the file is too long")));
    }
    Ok(text)
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    blocking(work).await.map_err(|error| Failure::unavailable("the agent stops", &error))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn identity() -> DeviceIdentity {
        serde_json::from_value(serde_json::json!({
            "device": "dev-1", "credential": "ewdev_secret", "registry": "127.0.0.1:5080", "tls": false,
            "image": "127.0.0.1:5080/device/self:current", "site": "plant-a", "slot": "one", "state": "active",
            "old_until": null,
        }))
        .unwrap()
    }

    #[test]
    fn an_attempt_stays_the_same_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let first = attempt(folder.path()).unwrap();
        assert_eq!(first.len(), 2 * ATTEMPT_BYTES);
        assert_eq!(attempt(folder.path()).unwrap(), first);
        durable::remove(&folder.path().join(ATTEMPT)).unwrap();
        assert_ne!(attempt(folder.path()).unwrap(), first);
    }

    #[test]
    fn the_written_configuration_is_that_of_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, "an authority").unwrap();
        write(folder.path(), &path, &identity(), "http://127.0.0.1:5080", Some(&authority)).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.device.as_str(), "dev-1");
        assert_eq!(config.image.to_string(), "127.0.0.1:5080/device/self:current");
        assert_eq!(config.registry.as_deref(), Some("http://127.0.0.1:5080"));
        assert_eq!(config.authority.as_deref(), Some("an authority".as_bytes()));
        let report = config.report.unwrap();
        assert_eq!(
            (report.url.as_str(), report.token.unwrap().0.as_str()),
            ("http://127.0.0.1:5080", "ewdev_secret")
        );
        assert!(config.auth.unwrap().0.contains("127.0.0.1:5080/device"));
    }
}
