//! `channel`: hold, resume, pin or unpin a channel on the server.

use edgewright_api::ChannelPost;
use edgewright_model::error::ErrorClass;

use crate::args::{ChannelCommand, Global};
use crate::exit::{End, Failure};
use crate::render;

/// Changes a channel and prints it as it is now.
pub(crate) async fn change(global: &Global, command: ChannelCommand) -> Result<End, Failure> {
    let (channel, post) = match command {
        ChannelCommand::List(_) | ChannelCommand::Show { .. } => {
            return Err(Failure::new(ErrorClass::Bug, "a command that reads is not dispatched"));
        }
        ChannelCommand::Hold { channel, reason } => (channel, ChannelPost::Hold { reason }),
        ChannelCommand::Resume { channel } => (channel, ChannelPost::Resume),
        ChannelCommand::Pin { channel, release, reason } => (channel, ChannelPost::Pin { release, reason }),
        ChannelCommand::Unpin { channel } => (channel, ChannelPost::Unpin),
    };
    let client = crate::connection::client(global)?;
    let view = client.change_channel(&channel.name, channel.source.as_ref(), &post).await?;
    super::print(channel.format.json, &view, |view| {
        render::channels(std::slice::from_ref(view), super::now())
    })
}
