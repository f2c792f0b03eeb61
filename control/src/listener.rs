//! The engine of control's tests: it writes down what it is told, and has no connections.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use uproar_proto::control::{
    Command, Engine, NodeInfo, NodeLoad, Reply, RoomInfo, Sample, SampleValue, Tell, Which,
};
use uproar_proto::v1::server_frame::Body;

/// The longest wait for what is to be told: no test waits for it unless it fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Default)]
pub(crate) struct Listener {
    told: Mutex<Vec<Tell>>,
    news: Notify,
}

impl Engine for Listener {
    fn command(&self, _: Command) {}

    fn list(&self, _: Which, _: usize, reply: Reply<Vec<RoomInfo>>) {
        reply(Ok(Vec::new()));
    }

    fn tell(&self, tell: Tell) -> Result<(), Tell> {
        if let Tell::Push { frame, .. } = &tell
            && let Body::Signal(signal) = &**frame
        {
            crate::guard::trap("tells", &signal.name);
        }
        self.told().push(tell);
        self.news.notify_waiters();
        Ok(())
    }

    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }

    fn node(&self) -> NodeInfo {
        NodeInfo::default()
    }

    fn nodes(&self) -> Vec<NodeLoad> {
        Vec::new()
    }

    fn ready(&self) -> bool {
        true
    }
}

impl Listener {
    /// What it was told so far, in order; a test may take it away.
    pub(crate) fn told(&self) -> MutexGuard<'_, Vec<Tell>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thing told that fits, from the beginning or to come.
    pub(crate) async fn until<T>(&self, fits: impl Fn(&Tell) -> Option<T>) -> T {
        let wait = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = self.told().iter().find_map(&fits) {
                    return found;
                }
                news.await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, wait).await;
        found.unwrap_or_else(|_| panic!("never told; but {:?}", self.told()))
    }
}

/// The value of a figure, all its labels together.
pub(crate) fn figure(samples: &[Sample], name: &str) -> f64 {
    let values = samples.iter().filter(|one| one.name == name).map(|one| match one.value {
        SampleValue::Number(value) => value,
        SampleValue::Histogram { count, .. } => count as f64,
    });
    values.sum()
}
