//! Lists: runs, images, releases, channels, sites, sources. All have `--json`, `--quiet` and `--no-headers`.

use edgewright_api::documents::{
    ChannelList, Document, ImageList, ReleaseList, RunList, SiteList, SourceList,
};

use super::now;
use crate::args::{Format, ListArgs, PageArgs, RowsArgs};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::{output, render};

/// `run list`.
pub(super) async fn runs(reader: &Reader, args: &PageArgs) -> Result<End, Failure> {
    let list = &args.list;
    let runs = reader.runs(list.selection.source.as_ref(), args.limit).await?;
    let names = runs.iter().map(|run| run.number.to_string()).collect::<Vec<_>>();
    print(list.rows, list.format, &names, &RunList { runs }, |list| render::runs(&list.runs, now()))
}

/// `image list`.
pub(super) async fn images(reader: &Reader, list: &ListArgs) -> Result<End, Failure> {
    let images = reader.images(list.selection.source.as_ref()).await?;
    let names = images.iter().map(|image| image.variant.to_string()).collect::<Vec<_>>();
    print(list.rows, list.format, &names, &ImageList { images }, |list| render::images(&list.images))
}

/// `release list`.
pub(super) async fn releases(reader: &Reader, args: &PageArgs) -> Result<End, Failure> {
    let list = &args.list;
    let releases = reader.releases(list.selection.source.as_ref(), args.limit).await?;
    let names = releases.iter().map(|release| release.number.to_string()).collect::<Vec<_>>();
    print(list.rows, list.format, &names, &ReleaseList { releases }, |list| {
        render::releases(&list.releases, now())
    })
}

/// `channel list`.
pub(super) async fn channels(reader: &Reader, list: &ListArgs) -> Result<End, Failure> {
    let channels = reader.channels(list.selection.source.as_ref()).await?;
    let names = channels.iter().map(|channel| channel.name.to_string()).collect::<Vec<_>>();
    print(list.rows, list.format, &names, &ChannelList { channels }, |list| {
        render::channels(&list.channels, now())
    })
}

/// `site list`.
pub(super) async fn sites(reader: &Reader, list: &ListArgs) -> Result<End, Failure> {
    let sites = reader.sites(list.selection.source.as_ref()).await?;
    let names = sites.iter().map(|site| site.name.to_string()).collect::<Vec<_>>();
    print(list.rows, list.format, &names, &SiteList { sites }, |list| render::sites(&list.sites, now()))
}

/// `source list`.
pub(super) async fn sources(reader: &Reader, rows: RowsArgs, format: Format) -> Result<End, Failure> {
    let sources = reader.sources().await?;
    let names = sources.iter().map(|source| source.name.to_string()).collect::<Vec<_>>();
    print(rows, format, &names, &SourceList { sources }, |list| render::sources(&list.sources, now()))
}

/// Prints a list.
pub(super) fn print<T: Document>(
    rows: RowsArgs,
    format: Format,
    names: &[String],
    document: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<End, Failure> {
    if rows.quiet {
        let end = if names.is_empty() { "" } else { "\n" };
        output::print(&(names.join("\n") + end))?;
        return Ok(End::Good);
    }
    super::print(format.json, document, |document| {
        let text = text(document);
        match text.split_once('\n') {
            // A script counts lines: the sentence about an empty list is not one.
            Some(_) if rows.no_headers && names.is_empty() => String::new(),
            Some((_, below)) if rows.no_headers => below.to_owned(),
            _ => text,
        }
    })
}
