//! The guest's end of the channel: answers the host and runs programs for it.
//!
//! The port is found by its name in `/sys`, so no udev is needed, and it may appear late: its driver can be a
//! module.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::PORT;
use crate::frame::{Decoder, Frame};
use crate::session::Session;

/// The pause between two looks for the port, or while no host is connected.
const PAUSE: Duration = Duration::from_millis(20);
/// How unlikely the kernel chooses the agent if memory runs out; its programs are as likely as others.
const SCORE: &str = "-900";
/// Maximum number of programs at the same time.
const MAX_SESSIONS: usize = 64;

/// Where frames to the host go. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Mutex<File>>);

impl Sender {
    /// Sends a frame. Without a host it is lost.
    pub(crate) fn send(&self, frame: &Frame) {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = frame.write(&mut *port);
    }
}

/// Serves the host for ever.
pub fn agent() -> ExitCode {
    let _ = fs::write("/proc/self/oom_score_adj", SCORE);
    loop {
        let opened = port().and_then(|path| {
            let file = fs::OpenOptions::new().read(true).write(true).open(path).ok()?;
            let writer = file.try_clone().ok()?;
            Some((file, Sender(Arc::new(Mutex::new(writer)))))
        });
        if let Some((port, sender)) = opened {
            serve(port, &sender);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The device of the channel's port.
fn port() -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let named = |path: &Path| fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim_end() == PORT);
    let found = entries.map(|entry| entry.path()).find(|path| named(path))?;
    Some(Path::new("/dev").join(found.file_name()?))
}

/// Reads frames until the port fails.
fn serve(mut port: File, sender: &Sender) {
    let mut sessions = BTreeMap::new();
    let mut decoder = Decoder::default();
    loop {
        match decoder.read(&mut port) {
            Ok(Some(frame)) => handle(frame, &mut sessions, sender),
            // No host is connected; its programs end.
            Ok(None) => {
                sessions.clear();
                decoder = Decoder::default();
                std::thread::sleep(PAUSE);
            }
            Err(_) => return,
        }
    }
}

fn handle(frame: Frame, sessions: &mut BTreeMap<u32, Session>, sender: &Sender) {
    match frame {
        Frame::Ping => {
            sessions.clear();
            sender.send(&Frame::Hello);
        }
        Frame::Start(id, program) => {
            sessions.retain(|_, session| !session.has_ended());
            let started = if sessions.len() >= MAX_SESSIONS {
                Err("too many programs".to_owned())
            } else {
                Session::start(id, &program, sender).map_err(|error| error.to_string())
            };
            match started {
                Ok(session) => drop(sessions.insert(id, session)),
                Err(error) => sender.send(&Frame::Failed(id, error)),
            }
        }
        Frame::Input(id, bytes) => {
            if sessions.get_mut(&id).is_some_and(|session| !session.input(bytes)) {
                sessions.remove(&id);
                sender.send(&Frame::Failed(id, "it does not read its input".to_owned()));
            }
        }
        Frame::InputEnds(id) => {
            if let Some(session) = sessions.get_mut(&id) {
                session.end_input();
            }
        }
        Frame::Resize(id, size) => {
            if let Some(session) = sessions.get(&id) {
                session.resize(size);
            }
        }
        Frame::Kill(id) => drop(sessions.remove(&id)),
        // Frames of a guest.
        Frame::Hello | Frame::Output(..) | Frame::Errors(..) | Frame::Ended(..) | Frame::Failed(..) => {}
    }
}
