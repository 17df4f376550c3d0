//! Messages to the client while a statement runs. The front end puts [`Notices`] into the session configuration and forwards what arrives.

use datafusion::prelude::SessionConfig;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Probably not what was meant.
    Warning,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub severity: Severity,
    /// Lower case, without a full stop.
    pub message: String,
}

/// Where functions put their messages: an extension of [`SessionConfig`] (`config.with_extension(Arc::new(notices))`).
/// A function sends a handful of messages per statement at most, so the channel has no bound.
#[derive(Debug, Clone)]
pub struct Notices(UnboundedSender<Notice>);

impl Notices {
    /// A sender for the session and the receiver for its connection.
    pub fn channel() -> (Self, UnboundedReceiver<Notice>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends a message; it is dropped when nobody listens any more.
    pub fn send(&self, severity: Severity, message: impl Into<String>) {
        // A closed channel means that the connection is gone, and its statement is about to be dropped too.
        let _ = self.0.send(Notice { severity, message: message.into() });
    }
}

/// Sends a message to the session's client, if the session has one.
pub(crate) fn send(config: &SessionConfig, severity: Severity, message: impl Into<String>) {
    if let Some(notices) = config.get_extension::<Notices>() {
        notices.send(severity, message);
    }
}
