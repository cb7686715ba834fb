//! `user`: local users of the server, and their tokens.

use edgewright_api::documents::UserList;
use edgewright_api::{TokenPost, UserPost};

use crate::args::{Global, TokenArgs, UserCommand};
use crate::connection;
use crate::exit::{End, Failure};
use crate::output;
use crate::render;

/// Runs the command.
pub(super) async fn user(global: &Global, command: UserCommand) -> Result<End, Failure> {
    let client = connection::client(global)?;
    match command {
        UserCommand::List { format } => {
            let list = UserList { users: client.users().await? };
            super::print(format.json, &list, |list| render::users(&list.users, super::now()))
        }
        UserCommand::Add { name, grants } => {
            let user = client.set_user(&UserPost { name, grants }).await?;
            output::print(&render::users(&[user], super::now()))?;
            Ok(End::Good)
        }
        UserCommand::Remove { name } => {
            client.remove_user(&name).await?;
            output::note(&format!("removed {name} with all tokens"));
            Ok(End::Good)
        }
        UserCommand::Token(TokenArgs { name, revoke: Some(id), .. }) => {
            client.revoke_token(&name, id).await?;
            output::note(&format!("revoked token {id} of {name}"));
            Ok(End::Good)
        }
        UserCommand::Token(TokenArgs { name, valid, .. }) => {
            let issued = client.issue_token(&name, &TokenPost { valid }).await?;
            output::note(&format!("token {} of {name}, valid until {}:", issued.id, issued.expires));
            output::print(&format!("{}\n", issued.token))?;
            Ok(End::Good)
        }
    }
}
