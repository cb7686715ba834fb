//! A scenario at work.

use std::cell::RefCell;

use super::settings::Settings;
use super::site::Site;
use super::turns::Turn;
use super::world::World;

/// What a scenario works with.
#[derive(Debug)]
pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World,
    /// The scenario's name; its sites are named after it.
    pub(crate) name: &'static str,
    turn: RefCell<Option<Turn>>,
}

impl<'w> Stage<'w> {
    pub(super) const fn new(world: &'w World, name: &'static str, turn: Turn) -> Self {
        Self { world, name, turn: RefCell::new(Some(turn)) }
    }

    /// The only user of a world, such as a demo.
    pub(crate) const fn only(world: &'w World, name: &'static str) -> Self {
        Self { world, name, turn: RefCell::new(None) }
    }

    /// A line of output.
    pub(crate) fn progress(&self, what: &str) {
        self.world.story.progress(&format!("{}: {what}", self.name));
    }

    /// A namespace, a server and a source, on the base image that is kept. `change` changes the server's
    /// settings.
    pub(crate) fn site(&self, change: impl FnOnce(&mut Settings)) -> anyhow::Result<Site<'_>> {
        self.site_named(self.name, change)
    }

    /// The same, with a name of its own: for the second site of a scenario.
    pub(crate) fn site_named(
        &self,
        name: &str,
        change: impl FnOnce(&mut Settings),
    ) -> anyhow::Result<Site<'_>> {
        let mut site = Site::prepare(self, name)?;
        super::base::kept(self.world)?.restore(&site.data())?;
        change(&mut site.settings);
        site.start()?;
        Ok(site)
    }

    /// Gives the turn away: what is left to do needs no power.
    pub(crate) fn rest(&self) {
        drop(self.turn.take());
    }
}
