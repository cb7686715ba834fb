//! `export tekton`: the objects that build a variant again and test it, as YAML.

use edgewright_api::ExportPost;

use super::digest;
use crate::args::{ExportArgs, Global};
use crate::exit::{End, Failure};
use crate::reader::Reader;
use crate::{connection, output, render};

/// Prints them. Notes are comments, so that the output can be applied as it is.
pub(super) async fn tekton(args: &ExportArgs, global: &Global) -> Result<End, Failure> {
    let client = connection::client(global)?;
    let reader = Reader::open(global).await?;
    let digest = digest::named(&reader, &args.what, args.selection.source.as_ref()).await?;
    let view = client.export(&ExportPost { digest: digest.clone(), token: args.token }).await?;
    let what = if args.token { "token and files" } else { "files" };
    let mut parts = vec![format!("# {} ({digest})\n", args.what)];
    parts.extend(view.notes.iter().map(|note| format!("# {}\n", render::plain(note))));
    parts.push(format!("# The server keeps its {what} until {}.\n", view.expires));
    parts.extend(view.objects.iter().map(|object| format!("---\n{}", render::yaml(object))));
    let text = parts.concat();
    output::print(&text)?;
    Ok(End::Good)
}
