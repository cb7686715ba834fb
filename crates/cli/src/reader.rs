//! Where read commands read: a server's API, or the local data folder. Both return the same documents.

use std::time::Duration;

use edgewright_api::{
    AuditFilter, AuditPage, ChannelView, Client, EvidenceQuery, EvidenceView, ImageSummary, ImageView,
    LogStream, ReleaseView, RunSummary, RunView, ServerStatus, SiteSummary, SiteView, SourceView,
};
use edgewright_model::names::{SiteName, SourceName, VariantName};
use edgewright_model::run::RunNumber;
use edgewright_process::Clock;
use edgewright_server::{LogReader, Views};

use crate::args::Global;
use crate::connection;
use crate::exit::Failure;
use crate::settings::Environment;

/// How long a server may be unreachable while something is followed: an update with a restart takes less.
pub(crate) const RESUME_LIMIT: Duration = Duration::from_mins(5);

/// Where to read.
#[derive(Debug)]
pub(crate) enum Reader {
    /// A server.
    Remote(Client),
    /// The local data folder.
    Local(Views),
}

/// A log as it comes.
#[derive(Debug)]
pub(crate) enum Log {
    /// From a server.
    Remote(LogStream),
    /// From the local data folder.
    Local(Box<LogReader>),
}

/// Calls the same method of the server's client or of the local views.
macro_rules! ask {
    ($reader:expr, $method:ident($($argument:expr),*)) => {
        match $reader {
            Reader::Remote(client) => Ok(client.$method($($argument),*).await?),
            Reader::Local(views) => Ok(views.$method($($argument),*).await?),
        }
    };
}

impl Reader {
    /// The server that `--server` or the client's configuration names, else the data folder.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        if let Some(client) = connection::reader(global)? {
            return Ok(Self::Remote(client));
        }
        let folder = Environment::read().data_folder(global.data.clone());
        Ok(Self::Local(Views::open(folder, Clock::system()).await?))
    }

    pub(crate) async fn status(&self) -> Result<ServerStatus, Failure> {
        ask!(self, status())
    }

    /// Whether it reads the local data folder.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    pub(crate) async fn sources(&self) -> Result<Vec<SourceView>, Failure> {
        ask!(self, sources())
    }

    pub(crate) async fn runs(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<RunSummary>, Failure> {
        ask!(self, runs(source, limit))
    }

    pub(crate) async fn run(&self, number: RunNumber) -> Result<RunView, Failure> {
        ask!(self, run(number))
    }

    pub(crate) async fn comment(&self, number: RunNumber) -> Result<String, Failure> {
        ask!(self, comment(number))
    }

    pub(crate) async fn evidence(&self, run: RunNumber, node: &str) -> Result<Vec<EvidenceView>, Failure> {
        ask!(self, evidence(run, node))
    }

    pub(crate) async fn piece(
        &self,
        run: RunNumber,
        node: &str,
        name: &str,
        of: &EvidenceQuery,
    ) -> Result<Vec<u8>, Failure> {
        ask!(self, piece(run, node, name, of))
    }

    pub(crate) async fn images(&self, source: Option<&SourceName>) -> Result<Vec<ImageSummary>, Failure> {
        ask!(self, images(source))
    }

    pub(crate) async fn image(
        &self,
        variant: &VariantName,
        source: Option<&SourceName>,
    ) -> Result<ImageView, Failure> {
        ask!(self, image(variant, source))
    }

    pub(crate) async fn releases(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<ReleaseView>, Failure> {
        ask!(self, releases(source, limit))
    }

    pub(crate) async fn channels(&self, source: Option<&SourceName>) -> Result<Vec<ChannelView>, Failure> {
        ask!(self, channels(source))
    }

    pub(crate) async fn sites(&self, source: Option<&SourceName>) -> Result<Vec<SiteSummary>, Failure> {
        ask!(self, sites(source))
    }

    pub(crate) async fn site(
        &self,
        name: &SiteName,
        source: Option<&SourceName>,
    ) -> Result<SiteView, Failure> {
        ask!(self, site(name, source))
    }

    pub(crate) async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, Failure> {
        ask!(self, audit(filter))
    }

    /// A log without its first `from` bytes.
    pub(crate) async fn log(
        &self,
        run: RunNumber,
        node: &str,
        follow: bool,
        from: u64,
    ) -> Result<Log, Failure> {
        Ok(match self {
            Self::Remote(client) => Log::Remote(client.log(run, node, follow, from).await?),
            Self::Local(views) => Log::Local(Box::new(views.log(run, node, follow).await?.from(from))),
        })
    }
}

impl Log {
    /// The next bytes; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        Ok(match self {
            Self::Remote(stream) => stream.next().await?,
            Self::Local(reader) => reader.next().await?,
        })
    }
}
