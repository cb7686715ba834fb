//! `release show` and `channel show`: one of a list.

use edgewright_model::error::ErrorClass;
use edgewright_model::names::SourceName;
use edgewright_model::run::ReleaseNumber;

use super::now;
use crate::args::{ChannelArgs, Format};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::render;

/// Shows a release with its entries.
pub(super) async fn release(
    reader: &Reader,
    number: ReleaseNumber,
    source: Option<&SourceName>,
    format: Format,
) -> Result<End, Failure> {
    let found = reader.release(number, source).await?;
    let sources: Vec<String> = found.iter().map(|release| release.source.to_string()).collect();
    only_one(&sources, || format!("release {number}"), "`edgewright release list` lists them")?;
    super::print(format.json, &found[0], |release| render::release(release, now()))
}

/// Shows a channel.
pub(super) async fn channel(reader: &Reader, channel: &ChannelArgs) -> Result<End, Failure> {
    let mut found = reader.channels(channel.source.as_ref()).await?;
    found.retain(|view| view.name == channel.name);
    let sources: Vec<String> = found.iter().map(|view| view.source.to_string()).collect();
    only_one(&sources, || format!("channel `{}`", channel.name), "`edgewright channel list` lists them")?;
    super::print(channel.format.json, &found[0], |view| render::channel(view, now()))
}

/// Checks that exactly one source has what was asked for.
fn only_one(sources: &[String], what: impl Fn() -> String, list: &str) -> Result<(), Failure> {
    match sources {
        [_] => Ok(()),
        [] => Err(Failure::new(ErrorClass::NotFound, format!("there is no {}", what())).hint(list)),
        several => Err(Failure::user(format!("several sources have {}: {}", what(), several.join(", ")))
            .hint("name the source: --source NAME")),
    }
}
