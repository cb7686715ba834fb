//! A device that is led from one image to another: what a lane asks of it, here and on hosts with a channel.
//!
//! On KubeVirt the runner leads it from inside ([`lead_device`]): it offers the image that is on a disk on
//! its own loopback, asks the agent to update, and continues after each restart where it was.
//!
//! | module | holds |
//! |---|---|
//! | `status` | what the agent reports about its device, pure |
//! | `order` | what the runner has to do |
//! | `state` | how far it is, on a disk that restarts and updates do not change |
//! | `offer` | the image as a registry with one tag |
//! | `lead` | from the first boot to the last |

mod lead;
mod offer;
mod order;
mod state;
mod status;

pub use lead::{Places, lead_device};
pub use offer::{BLOBS, MANIFESTS, OFFER, Offer, REFERRERS, TYPE};
pub use order::{DeviceOrder, Journey};
pub use status::{Status, arrived};

/// Leaves a mark in `/var`, a new file in `/etc`, and an edit in a file that the image has there. `$1` is
/// their text.
pub const LEAVE: &str = r#"
set -eu
mkdir -p /var/lib/edgewright-lane
printf '%s\n' "$1" > /var/lib/edgewright-lane/mark
printf '%s\n' "$1" > /etc/edgewright-lane.mark
for file in /etc/profile /etc/bash.bashrc /etc/bashrc /etc/issue /etc/motd /etc/hosts /etc/services; do
    if [ -f "$file" ] && [ ! -L "$file" ]; then
        printf '\n# %s\n' "$1" >> "$file"
        printf '%s' "$file" > /var/lib/edgewright-lane/edited
        break
    fi
done
sync
"#;

/// Prints what is not as [`LEAVE`] left it, one path in a line.
pub const MISSING: &str = r#"
has() { case "$(cat "$1" 2>/dev/null || true)" in *"$2"*) ;; *) echo "$1" ;; esac; }
has /var/lib/edgewright-lane/mark "$1"
has /etc/edgewright-lane.mark "$1"
file=$(cat /var/lib/edgewright-lane/edited 2>/dev/null || true)
[ -z "$file" ] || has "$file" "$1"
"#;

/// What a status means to someone who waits for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is the wanted one.
    Reached,
    /// It may become that.
    NotYet,
    /// It will not: why.
    Failed(String),
}
