//! `check` and `vars`: a folder's files as they are, committed or not.

use std::path::Path;

use edgewright_api::documents::{CheckReport, Declared, VariableView, VariantVars};
use edgewright_api::{DiagnosticView, Severity};
use edgewright_model::error::ErrorClass;
use edgewright_model::format::{Diagnostic, Parsed, parse, render};
use edgewright_model::names::VariantName;
use edgewright_model::resolve::{self, ResolvedVar};
use edgewright_model::tree::Tree;
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::{Locks, graph};
use edgewright_process::{CancellationToken, Clock, ProcessContext};
use edgewright_source::{Git, Worktree};
use jiff::tz::TimeZone;

use crate::args::Format;
use crate::exit::{self, End, Failure};
use crate::output;
use crate::render::style::{GREEN, HINT, RED, Style, YELLOW, paint};

/// The file that makes a folder a source.
const SOURCE_FILE: &str = "edgewright.yaml";

/// A folder's files, read by a git with a temporary home that leaves no files behind.
pub(crate) struct Folder {
    pub(crate) worktree: Worktree,
    pub(crate) parsed: Parsed,
    pub(crate) git: Git,
    _home: tempfile::TempDir,
}

impl Folder {
    /// Reads a folder.
    pub(crate) async fn read(dir: &Path) -> Result<Self, Failure> {
        // Before git reads everything in a folder that is no source, such as a home.
        let error = match tokio::fs::metadata(dir).await {
            Err(error) => Some(Failure::file("cannot read the folder", dir, &error)),
            Ok(metadata) if !metadata.is_dir() => {
                Some(Failure::user(format!("{} is not a folder", dir.display())))
            }
            Ok(_) if !tokio::fs::try_exists(dir.join(SOURCE_FILE)).await.unwrap_or(false) => {
                let message = format!("{} is not a source: it has no {SOURCE_FILE}", dir.display());
                Some(Failure::new(ErrorClass::NotFound, message))
            }
            Ok(_) => None,
        };
        if let Some(error) = error {
            return Err(error.hint("name the folder of a source; `edgewright init DIR` writes a sample"));
        }
        let home = tempfile::Builder::new()
            .prefix("edgewright-git-")
            .tempdir()
            .map_err(|error| Failure::unavailable("cannot create a temporary folder", &error))?;
        let git = Git::open(home.path(), ProcessContext::new(CancellationToken::new()))?;
        let worktree = Worktree::read(&git, dir).await?;
        let parsed = parse(&worktree.tree);
        Ok(Self { worktree, parsed, git, _home: home })
    }

    /// All errors, those that only planning finds included.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        self.findings().0
    }

    /// All errors and warnings, those that only planning finds included.
    fn findings(&self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let (mut errors, mut warnings) = (self.parsed.diagnostics.clone(), self.parsed.warnings.clone());
        if let Some(definition) = &self.parsed.definition {
            let locks = Locks::choose(definition, &std::collections::BTreeMap::new(), COMPRESSOR_VERSION);
            let found = graph(definition, &self.worktree.tree, &locks);
            let is_new = |diagnostic: &Diagnostic| !self.parsed.diagnostics.contains(diagnostic);
            errors.extend(found.diagnostics.into_iter().filter(is_new));
            warnings.extend(found.warnings);
        }
        (errors, warnings)
    }
}

/// Prints diagnostics on standard error, coloured. With `--json` the first of them is the error of the
/// command.
pub(crate) fn show(diagnostics: &[Diagnostic], tree: &Tree) {
    if output::errors_are_json() {
        let first = diagnostics.first().map(|diagnostic| match &diagnostic.file {
            Some(file) => format!("{file}: {}", diagnostic.message),
            None => diagnostic.message.clone(),
        });
        let hint = "`edgewright check` shows all errors";
        output::error(exit::name_of(ErrorClass::UserFault), &first.unwrap_or_default(), Some(hint));
        return;
    }
    output::note(&text(diagnostics, tree, RED, "error"));
}

fn text(diagnostics: &[Diagnostic], tree: &Tree, style: Style, word: &str) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        for line in render(diagnostic, tree).lines() {
            let coloured = if let Some(rest) = line.strip_prefix("error:") {
                format!("{}{rest}", paint(style, format!("{word}:")))
            } else if let Some(rest) = line.strip_prefix("hint:") {
                format!("{}{rest}", paint(HINT, "hint:"))
            } else if line.trim_start_matches(['|', ' ']).starts_with('^') {
                paint(style, line)
            } else {
                line.to_owned()
            };
            text.push_str(&coloured);
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(&match diagnostics.len() {
        1 => paint(style, format!("1 {word}")),
        count => paint(style, format!("{count} {word}s")),
    });
    text
}

/// The document of `check --json`.
fn report(parsed: &Parsed, errors: &[Diagnostic], warnings: &[Diagnostic]) -> CheckReport {
    let of = |severity: Severity, diagnostics: &[Diagnostic]| -> Vec<DiagnosticView> {
        diagnostics.iter().map(|diagnostic| DiagnosticView::new(severity, diagnostic.clone())).collect()
    };
    let definition = parsed.definition.as_ref();
    CheckReport {
        source: definition.map(|definition| definition.source.name.to_string()),
        declared: definition.map(|definition| Declared {
            images: definition.images.len() as u64,
            sites: definition.sites.len() as u64,
            variants: resolve::variants(definition).len() as u64,
        }),
        diagnostics: [of(Severity::Error, errors), of(Severity::Warning, warnings)].concat(),
    }
}

/// `check`.
pub(crate) async fn check(dir: &Path, format: Format) -> Result<End, Failure> {
    let folder = Folder::read(dir).await?;
    let (diagnostics, mut warnings) = folder.findings();
    let today = Clock::system().now().to_zoned(TimeZone::UTC).date();
    let endings = folder.parsed.endings.iter().filter(|(until, _)| *until < today);
    warnings.extend(endings.map(|(_, diagnostic)| diagnostic.clone()));
    if format.json {
        output::json(&report(&folder.parsed, &diagnostics, &warnings))?;
        return Ok(if diagnostics.is_empty() { End::Good } else { End::Fault });
    }
    if !warnings.is_empty() {
        output::note(&text(&warnings, &folder.worktree.tree, YELLOW, "warning"));
    }
    if !diagnostics.is_empty() {
        show(&diagnostics, &folder.worktree.tree);
        return Ok(End::Fault);
    }
    let definition = folder.parsed.definition.as_ref();
    let line = definition.map_or_else(String::new, |definition| {
        let variants = resolve::variants(definition).len();
        let (images, sites) = (definition.images.len(), definition.sites.len());
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let counts = [count(images, "image"), count(sites, "site"), count(variants, "variant")];
        format!("{}: {}", definition.source.name, counts.join(", "))
    });
    output::print(&format!("{} {line}\n", paint(GREEN, "ok")))?;
    Ok(End::Good)
}

/// `vars`.
pub(crate) async fn vars(variant: &VariantName, dir: &Path, format: Format) -> Result<End, Failure> {
    let folder = Folder::read(dir).await?;
    let Some(definition) = &folder.parsed.definition else {
        show(&folder.parsed.diagnostics, &folder.worktree.tree);
        return Ok(End::Fault);
    };
    let vars = super::target::resolved(definition, variant)?;
    if format.json {
        let vars = vars.into_iter().map(|(name, var)| {
            let ResolvedVar { value, origin } = var;
            let value = serde_json::to_value(value).map_err(|error| {
                Failure::new(ErrorClass::Bug, format!("cannot print the variable {name}: {error}"))
            })?;
            Ok((name.to_string(), VariableView { value, origin }))
        });
        let vars = vars.collect::<Result<_, Failure>>()?;
        output::json(&VariantVars { variant: variant.to_string(), vars })?;
    } else {
        output::print(&crate::render::vars(&vars))?;
    }
    Ok(End::Good)
}
