//! A process group: it is killed when this process dies, and killed and reaped as a whole.
//!
//! Children are started by one thread that lives as long as this process: `PR_SET_PDEATHSIG` fires when the
//! *thread* that started a child ends, and a runtime's threads come and go.

use std::io;
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// The most starts that wait for the starting thread.
const QUEUE: usize = 64;
/// How long to wait for killed processes to disappear: they can hang in the kernel.
const VANISH: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

struct Request {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

static STARTER: LazyLock<SyncSender<Request>> = LazyLock::new(|| {
    let (sender, requests) = sync_channel::<Request>(QUEUE);
    // If no thread can be started, sending fails, and with it every command.
    let _ = std::thread::Builder::new().name("process-starter".to_owned()).spawn(move || {
        for Request { mut command, runtime, answer } in requests {
            let _inside = runtime.enter();
            // If the caller has stopped waiting, dropping the child kills it.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

/// Kills the remaining processes of a group when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) child: Child,
    leader: Option<Pid>,
}

impl Group {
    pub(crate) async fn start(command: Command) -> io::Result<Self> {
        let (answer, started) = oneshot::channel();
        let gone = |_| io::Error::other("the thread that starts processes has ended");
        STARTER
            .send(Request { command, runtime: Handle::current(), answer })
            .map_err(|_| io::Error::other("the thread that starts processes could not be started"))?;
        let child = started.await.map_err(gone)??;
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, leader })
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // The only expected error is that the group is gone.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills the processes that the leader left behind.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks all to end, kills them after `grace`, and waits until they are gone.
    pub(crate) async fn end(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        let _ = timeout(grace, self.child.wait()).await;
        self.signal(Signal::KILL);
        let _ = timeout(VANISH, self.child.wait()).await;
        let Some(leader) = self.leader.take() else { return };
        let until = Instant::now() + VANISH;
        while test_kill_process_group(leader).is_ok() && Instant::now() < until {
            sleep(POLL).await;
        }
    }

    /// Forgets the group: processes that left it, such as daemons, keep running.
    pub(crate) fn release(&mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
