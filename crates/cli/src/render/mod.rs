//! Documents → text for people. Pure: `now` is an argument, colours are escape codes that [`crate::output`]
//! drops if the output is not a terminal.

mod audit;
mod device;
mod doctor;
mod evidence;
mod explain;
mod facts;
mod image;
mod plan;
mod rebuild;
mod release;
pub(crate) mod rollout;
pub(crate) mod rollouts;
mod run;
mod site;
mod status;
pub(crate) mod style;
mod table;
pub(crate) mod units;
mod users;
mod vars;
pub(crate) mod visible;
mod yaml;

pub(crate) use audit::audit;
pub(crate) use device::{device, devices, enrolment, identity};
pub(crate) use doctor::doctor;
pub(crate) use evidence::evidence;
pub(crate) use explain::explanation;
pub(crate) use image::{image, images};
pub(crate) use plan::plan;
pub(crate) use rebuild::rebuilds;
pub(crate) use release::{channel, channels, release, releases};
pub(crate) use run::{commit as short_commit, locks, node_name, node_state, run, runs, state};
pub(crate) use site::{site, sites};
pub(crate) use status::{reconcilers, sources, status};
pub(crate) use style::plain;
pub(crate) use users::users;
pub(crate) use vars::vars;
pub(crate) use yaml::yaml;
