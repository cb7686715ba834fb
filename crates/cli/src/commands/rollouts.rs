//! Rollouts, promotion, the way back and the quarantine, on the server.

use edgewright_api::documents::{QuarantineList, RolloutDeviceList, RolloutList};
use edgewright_api::{ChannelPost, RolloutPost};

use super::{list, now, print};
use crate::args::{
    Global, PageArgs, PromoteArgs, QuarantineCommand, RollbackArgs, RolloutArgs, RolloutCommand,
};
use crate::exit::{End, Failure};
use crate::{connection, render};

/// `rollout …`.
pub(super) async fn rollout(command: RolloutCommand, global: &Global) -> Result<End, Failure> {
    let (args, post) = match command {
        RolloutCommand::Simulate(args) => return super::rollout::simulation(&args).await,
        RolloutCommand::List(page) => return rollouts(&page, global).await,
        RolloutCommand::Show { rollout } => return show(&rollout, global).await,
        RolloutCommand::Explain { rollout, device } => {
            let client = connection::client(global)?;
            let devices =
                client.rollout_devices(&rollout.name, rollout.source.as_ref(), device.as_ref()).await?;
            return print(rollout.format.json, &RolloutDeviceList { devices }, |list| {
                render::rollouts::devices(&list.devices)
            });
        }
        RolloutCommand::Pause { rollout } => (rollout, RolloutPost::Pause),
        RolloutCommand::Resume { rollout } => (rollout, RolloutPost::Resume),
        RolloutCommand::Abort { rollout } => (rollout, RolloutPost::Abort),
        RolloutCommand::Approve { rollout, stage } => (rollout, RolloutPost::Approve { stage }),
        RolloutCommand::Urgent { rollout } => (rollout, RolloutPost::Urgent),
    };
    let client = connection::client(global)?;
    let view = client.order_rollout(&args.name, args.source.as_ref(), &post).await?;
    print(args.format.json, &view, |view| render::rollouts::rollout(view, now()))
}

/// `rollout list`.
pub(super) async fn rollouts(page: &PageArgs, global: &Global) -> Result<End, Failure> {
    let args = &page.list;
    let rollouts = connection::client(global)?.rollouts(args.selection.source.as_ref(), page.limit).await?;
    let names = rollouts.iter().map(|rollout| rollout.number.to_string()).collect::<Vec<_>>();
    list::print(args.rows, args.format, &names, &RolloutList { rollouts }, |list| {
        render::rollouts::rollouts(&list.rollouts, now())
    })
}

async fn show(args: &RolloutArgs, global: &Global) -> Result<End, Failure> {
    let view = connection::client(global)?.rollout(&args.name, args.source.as_ref()).await?;
    print(args.format.json, &view, |view| render::rollouts::rollout(view, now()))
}

/// `promote`.
pub(super) async fn promote(args: PromoteArgs, global: &Global) -> Result<End, Failure> {
    let post = ChannelPost::Promote { release: args.release, reason: args.reason };
    let (channel, client) = (args.channel, connection::client(global)?);
    let view = client.change_channel(&channel.name, channel.source.as_ref(), &post).await?;
    print(channel.format.json, &view, |view| render::channel(view, now()))
}

/// `rollback`.
pub(super) async fn roll_back(args: RollbackArgs, global: &Global) -> Result<End, Failure> {
    let post = ChannelPost::RollBack { to: args.to, reason: args.reason };
    let (channel, client) = (args.channel, connection::client(global)?);
    let view = client.change_channel(&channel.name, channel.source.as_ref(), &post).await?;
    print(channel.format.json, &view, |view| render::channel(view, now()))
}

/// `quarantine …`.
pub(super) async fn quarantine(command: QuarantineCommand, global: &Global) -> Result<End, Failure> {
    let client = connection::client(global)?;
    let (quarantine, format) = match command {
        QuarantineCommand::List { format } => (client.quarantine().await?, format),
        QuarantineCommand::Clear { digest, format } => (client.clear_quarantine(&digest).await?, format),
    };
    print(format.json, &QuarantineList { quarantine }, |list| {
        render::rollouts::quarantine(&list.quarantine, now())
    })
}
