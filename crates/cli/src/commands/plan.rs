//! `plan`: what a run of a folder would do, and why. It writes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use edgewright_api::documents::{PlanNode, PlanReport};
use edgewright_api::{Counts, DiagnosticView, NodeAction};
use edgewright_model::error::ErrorClass;
use edgewright_model::format::Diagnostic;
use edgewright_model::lock::Lock;
use edgewright_model::names::{CommitId, ImageName, Platform, SourceName, VariantName};
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_model::run::RunNumber;
use edgewright_model::spec::{Definition, SiteNames};
use edgewright_model::tools::ToolVersions;
use edgewright_model::verdict::{LaneResult, lane_inputs};
use edgewright_oci::COMPRESSOR_VERSION;
use edgewright_plan::history::PreviousBuild;
use edgewright_plan::{Graph, History, Locks, Plan, graph};
use edgewright_process::Command;
use edgewright_source::{Mirror, Remote};
use edgewright_store::Store;
use edgewright_store::runs::RunRow;
use edgewright_store::sources::SourceRow;

use super::check::{Folder, show};
use super::target::Place;
use crate::args::{Global, PlanArgs};
use crate::exit::{End, Failure};
use crate::settings::Environment;
use crate::{output, render};

/// How long git may take to understand a revision.
const GIT_LIMIT: Duration = Duration::from_secs(30);

/// What a plan is compared with.
#[derive(Default)]
struct Past {
    history: History,
    overlays: BTreeMap<ImageName, Vec<(u64, Lock)>>,
    previous: Option<Graph>,
    /// The tools of the newest run. An executor whose tools changed since then builds more.
    tools: ToolVersions,
    since: Option<String>,
    /// The names that sites have had until now.
    sites: SiteNames,
    /// The released manifests, from which lanes that update a device start.
    released: BTreeMap<(VariantName, Platform), ManifestRef>,
}

/// Prints a plan.
pub(crate) async fn plan(args: &PlanArgs, global: &Global) -> Result<End, Failure> {
    let dir = args.dir.as_deref().map(|dir| dir.to_string_lossy().into_owned());
    let place = Place::of(args.target.as_deref(), dir.as_deref())?;
    let explain = args.explain.as_ref().or(place.variant.as_ref());
    let dir = Path::new(&place.dir);
    let folder = Folder::read(dir).await?;
    let mut diagnostics = folder.diagnostics();
    let past = match &folder.parsed.definition {
        None => Past::default(),
        Some(definition) => match &args.since {
            Some(revision) => since(&folder, dir, revision).await?,
            None => known(&folder, dir, definition, global).await?,
        },
    };
    let named = folder.parsed.definition.as_ref().map(|definition| definition.with_site_names(&past.sites));
    diagnostics.extend(named.iter().flat_map(|(_, faults)| faults.clone()));
    // A plan's document holds them.
    let is_in_document = args.format.json && folder.parsed.definition.is_some();
    if !diagnostics.is_empty() && !is_in_document {
        show(&diagnostics, &folder.worktree.tree);
    }
    let Some((definition, _)) = &named else { return Ok(End::Fault) };
    let locks = Locks::choose(definition, &past.overlays, COMPRESSOR_VERSION).with_tools(past.tools.clone());
    let mut graph = graph(definition, &folder.worktree.tree, &locks);
    graph.compare_with(&past.history.builds, |variant, platform| {
        past.released.get(&(variant.clone(), platform.clone())).cloned()
    });
    let plan = edgewright_plan::plan(&graph, &past.history, past.previous.as_ref());
    if let Some(variant) = explain {
        let mut explanation =
            super::plan_explain::explain(variant, definition, &graph, past.previous.as_ref(), &plan)?;
        explanation.since = past.since;
        return if args.format.json {
            output::json(&explanation)
        } else {
            output::print(&render::explanation(&explanation, args.all))
        }
        .map(|()| End::Good);
    }
    if args.format.json {
        output::json(&report(&plan, past.since, diagnostics.clone()))?;
    } else {
        if let Some(commit) = &past.since {
            output::note(&format!("compared with commit {}", render::short_commit(commit)));
        } else {
            output::note("nothing of this source was built yet");
        }
        output::print(&render::plan(&plan, args.all))?;
    }
    Ok(if diagnostics.is_empty() { End::Good } else { End::Fault })
}

/// The document of `plan --json`.
fn report(plan: &Plan, since: Option<String>, diagnostics: Vec<Diagnostic>) -> PlanReport {
    let mut counts = Counts::default();
    let nodes = plan.nodes.iter().map(|(id, planned)| {
        let action = NodeAction::from_name(planned.action.name());
        match action {
            NodeAction::Build => counts.build += 1,
            NodeAction::Test => counts.test += 1,
            NodeAction::Reuse => counts.reuse += 1,
            NodeAction::Retire => counts.retire += 1,
            NodeAction::Failed => counts.failed += 1,
            NodeAction::Blocked => counts.blocked += 1,
            NodeAction::Lock | NodeAction::Other => {}
        }
        PlanNode {
            node: id.name.to_string(),
            variant: id.name.variant().map(ToString::to_string),
            platform: id.platform.to_string(),
            action,
            reason: planned.reason(),
            reasons: planned.reasons.iter().map(ToString::to_string).collect(),
            key: planned.key.as_ref().map(ToString::to_string),
        }
    });
    let nodes = nodes.collect();
    let summary = plan.summary();
    PlanReport {
        source: plan.source.to_string(),
        since,
        summary: summary.to_string(),
        counts,
        reasons: summary.because,
        diagnostics: diagnostics.into_iter().map(DiagnosticView::error).collect(),
        nodes,
    }
}

/// As if a commit had been built and had passed.
async fn since(folder: &Folder, dir: &Path, revision: &str) -> Result<Past, Failure> {
    // The folder's own git knows its branches; the repository that read the files knows the objects.
    let asked = Command::new("git")
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"))
        .cwd(dir)
        .deadline(GIT_LIMIT)
        .run_status()
        .await?;
    let commit = asked.success().then(|| asked.output.text().trim().parse::<CommitId>().ok()).flatten();
    let Some(commit) = commit else {
        let message = format!("there is no commit `{revision}` in {}", dir.display());
        return Err(Failure::new(ErrorClass::NotFound, message)
            .hint("`git log` lists commits; branches, tags and HEAD~1 work, too"));
    };
    let tree = folder.worktree.repository.read_tree(&commit).await?;
    let mut past = Past { since: Some(commit.to_string()), ..Past::default() };
    if let Some(definition) = edgewright_model::format::parse(&tree).definition {
        let locks = Locks::choose(&definition, &past.overlays, COMPRESSOR_VERSION);
        let before = graph(&definition, &tree, &locks);
        past.sites = definition.site_names();
        past.history = as_if_built(&before);
        past.previous = Some(before);
    }
    Ok(past)
}

/// Nothing is known. Verdicts count as they do for the executor of `serve` and `run`.
fn empty() -> History {
    History { lane_inputs: lane_inputs(edgewright_job::local_lane_profile), ..History::default() }
}

/// A history in which every node of a graph was built and passed. Its digests are stand-ins: nothing is
/// executed.
fn as_if_built(graph: &Graph) -> History {
    let mut history = empty();
    for (id, node) in &graph.nodes {
        for key in node.keys() {
            let manifest = ManifestRef { repository: node.repository.clone(), digest: key.clone() };
            history.builds.entry(key.clone()).or_insert(manifest);
        }
        let keys: Vec<_> =
            node.lanes.iter().filter_map(|lane| history.verdict_key(&node.key, lane)).collect();
        history.passed.extend(keys);
        if let Some(variant) = node.variant() {
            let build = PreviousBuild { key: node.key.clone(), manifest: node.key.clone() };
            history.variants.entry(variant.clone()).or_default().insert(id.platform.clone(), build);
        }
    }
    history
}

/// What the data folder knows of this source.
async fn known(
    folder: &Folder,
    dir: &Path,
    definition: &Definition,
    global: &Global,
) -> Result<Past, Failure> {
    let mut past = Past { history: empty(), ..Past::default() };
    let data = Environment::read().data_folder(global.data.clone());
    if !tokio::fs::try_exists(data.database()).await.unwrap_or(false) {
        return Ok(past);
    }
    let store = Store::open_read_only(&data.database()).await?;
    let sources = store.sources().await?;
    let Some(source) = row_of(&store, &sources, dir, &definition.source.name).await? else {
        return Ok(past);
    };
    let domain = source.id.domain(true);
    for row in store.locks(domain).await? {
        past.overlays.entry(row.image).or_default().push((u64::from(row.number), row.lock));
    }
    past.sites = store.site_names(source.id).await?;
    let (definition, _) = definition.with_site_names(&past.sites);
    let newest = store.planned_before(RunNumber(u32::MAX), domain).await?;
    past.tools = newest.as_ref().map(|run| run.tools.clone()).unwrap_or_default();
    let locks = Locks::choose(&definition, &past.overlays, COMPRESSOR_VERSION).with_tools(past.tools.clone());
    let now = graph(&definition, &folder.worktree.tree, &locks);
    past.history.builds = store.built(&now.keys(), domain).await?;
    let built = past.history.builds.values().map(|build| &build.digest).collect();
    for row in store.newest_verdicts(&built, domain).await? {
        let key = row.verdict.key();
        match row.verdict.result {
            LaneResult::Passed => drop(past.history.passed.insert(key)),
            LaneResult::Failed { kind: FailureKind::Image, message } => {
                drop(past.history.failed.insert(key, message));
            }
            LaneResult::Failed { .. } => {}
        }
    }
    if let Some(run) = newest {
        past.released = on_devices(&store, source, &run.branch).await?;
        for head in store.heads(domain, &run.branch).await? {
            let before = PreviousBuild { key: head.key, manifest: head.digest };
            past.history.variants.entry(head.variant).or_default().insert(head.platform, before);
        }
        // Reasons are more specific with the files of that commit: from this clone, or what was fetched to
        // build them.
        let mirror = data.sources().join(format!("{}.git", source.name));
        let mirror =
            Mirror::new(folder.git.clone(), mirror, Remote::from_path(&data.sources())?).repository();
        let tree = match folder.worktree.repository.read_tree(&run.commit).await {
            Ok(tree) => Ok(tree),
            Err(_) => mirror.read_tree(&run.commit).await,
        };
        if let Ok(tree) = tree
            && let Some(mut before) = edgewright_model::format::parse(&tree).definition
        {
            before.name_sites(&past.sites);
            let locks = locks_of(&before, &past.overlays, &run);
            past.previous = Some(graph(&before, &tree, &locks));
        }
        past.since = Some(run.commit.to_string());
    }
    store.close().await;
    Ok(past)
}

/// What devices have before they take what a branch makes: as a server's runs decide it.
async fn on_devices(
    store: &Store,
    source: &SourceRow,
    branch: &str,
) -> Result<BTreeMap<(VariantName, Platform), ManifestRef>, Failure> {
    let own = released(store, source, branch).await?;
    match &source.default_branch {
        Some(default) if own.is_empty() => released(store, source, default).await,
        _ => Ok(own),
    }
}

/// What a branch released last.
async fn released(
    store: &Store,
    source: &SourceRow,
    branch: &str,
) -> Result<BTreeMap<(VariantName, Platform), ManifestRef>, Failure> {
    let Some(number) = store.newest_release(source.id, branch).await? else { return Ok(BTreeMap::new()) };
    let indexes = store.indexes_of(source.id, number).await?;
    let mut released = BTreeMap::new();
    for entry in store.entries(source.id, number).await? {
        for (platform, digest) in indexes.get(&entry.digest).into_iter().flatten() {
            let manifest = ManifestRef { repository: entry.repository.clone(), digest: digest.clone() };
            released.insert((entry.variant.clone(), platform.clone()), manifest);
        }
    }
    Ok(released)
}

/// The row that a run of this folder would continue, as `run` finds it: by its configured name, by its
/// address, and without runs of its own by the name that the source declares.
async fn row_of<'a>(
    store: &Store,
    sources: &'a [SourceRow],
    dir: &Path,
    name: &SourceName,
) -> Result<Option<&'a SourceRow>, Failure> {
    let path = tokio::fs::canonicalize(dir).await;
    let path = path.map_err(|error| Failure::file("cannot use", dir, &error))?;
    let url = Remote::from_path(&path)?.to_string();
    let own = sources.iter().find(|row| row.name == *name);
    let own = own.or_else(|| sources.iter().find(|row| row.url == url));
    if let Some(own) = own
        && !store.runs(Some(own.id), 1).await?.is_empty()
    {
        return Ok(Some(own));
    }
    Ok(sources.iter().find(|row| row.definition_name.as_ref() == Some(name)).or(own))
}

/// The locks of a run's plan: newer overlays do not count.
fn locks_of(
    definition: &Definition,
    overlays: &BTreeMap<ImageName, Vec<(u64, Lock)>>,
    run: &RunRow,
) -> Locks {
    let mut then = BTreeMap::new();
    for (image, number) in &run.locks {
        let all = overlays.get(image).map_or(&[][..], Vec::as_slice);
        let used = all.iter().filter(|(overlay, _)| Some(*overlay) == number.map(u64::from));
        then.insert(image.clone(), used.cloned().collect());
    }
    Locks::choose(definition, &then, COMPRESSOR_VERSION).with_tools(run.tools.clone())
}
