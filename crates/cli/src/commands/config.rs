//! `config`: the client's configuration.

use edgewright_model::error::ErrorClass;

use crate::args::ConfigCommand;
use crate::client_config::ClientConfig;
use crate::exit::{End, Failure};
use crate::output;
use crate::settings::Environment;

/// Shows or changes the client's configuration.
pub(super) fn config(command: &ConfigCommand) -> Result<End, Failure> {
    let path = Environment::read().client_config().ok_or_else(|| {
        Failure::new(ErrorClass::NotFound, "no folder for the client's configuration: HOME is not set")
            .hint("set HOME or XDG_CONFIG_HOME")
    })?;
    let mut config = ClientConfig::read(&path)?;
    match command {
        ConfigCommand::Show => {}
        ConfigCommand::Set { key, value } => {
            config.set(key, Some(value))?;
            config.write(&path)?;
        }
        ConfigCommand::Unset { key } => {
            config.set(key, None)?;
            config.write(&path)?;
        }
    }
    output::note(&format!("# {}", path.display()));
    let values = config.values();
    if values.is_empty() {
        output::note("nothing is set: commands use the local data folder");
    }
    for (key, value) in values {
        output::print(&format!("{key} = {value}\n"))?;
    }
    Ok(End::Good)
}
