//! NOTIFY and LISTEN: messages from one session to all that listen to a channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::sqlstate::{SqlError, SqlState};

/// Messages that may wait for a session that does not take them.
const MOST: usize = 10_000;

/// Longest message, in bytes, as in PostgreSQL.
const LONGEST: usize = 7_999;

/// Longest name of a channel, in bytes.
const LONGEST_NAME: usize = 63;

/// A message on its way to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Who sent it.
    pub(crate) pid: i32,
    pub(crate) channel: String,
    pub(crate) text: String,
}

/// What a transaction does once it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Post {
    Listen(String),
    /// No channel is all.
    Unlisten(Option<String>),
    Notify {
        channel: String,
        text: String,
    },
}

impl Post {
    /// A message, if its channel and text may be that long.
    pub(crate) fn notify(channel: &str, text: &str) -> Result<Self, SqlError> {
        let invalid = |message: &str| Err(SqlError::new(SqlState::InvalidParameterValue, message));
        if channel.is_empty() {
            return invalid("channel name cannot be empty");
        }
        if channel.len() > LONGEST_NAME {
            return invalid("channel name too long");
        }
        if text.len() > LONGEST {
            return invalid("payload string too long");
        }
        Ok(Self::Notify { channel: channel.to_owned(), text: text.to_owned() })
    }
}

/// The channels of a server, with who listens.
#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<HashMap<String, BTreeMap<i32, mpsc::Sender<Message>>>>);

/// Where a session hears messages.
pub(crate) fn ear() -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    mpsc::channel(MOST)
}

impl Channels {
    fn listeners(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<i32, mpsc::Sender<Message>>>> {
        // nothing panics while it is held
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a message to a channel one of whose listeners takes none.
    pub(crate) fn admit(&self, channel: &str) -> Result<(), SqlError> {
        if self.listeners().get(channel).is_some_and(|listeners| listeners.values().any(|listener| listener.capacity() == 0)) {
            return Err(SqlError::new(SqlState::ProgramLimitExceeded, "too many notifications in the NOTIFY queue")
                .with_detail(format!("a session that listens has {MOST} messages to take")));
        }
        Ok(())
    }

    /// Does what a session has posted: what it repeats once.
    pub(crate) fn carry_out(&self, pid: i32, ear: &mpsc::Sender<Message>, posts: &[Post]) {
        let mut all = self.listeners();
        for (at, post) in posts.iter().enumerate() {
            match post {
                Post::Listen(channel) => {
                    all.entry(channel.clone()).or_default().insert(pid, ear.clone());
                }
                Post::Unlisten(channel) => all.retain(|name, listeners| {
                    if channel.as_ref().is_none_or(|channel| channel == name) {
                        listeners.remove(&pid);
                    }
                    !listeners.is_empty()
                }),
                Post::Notify { .. } if posts[..at].contains(post) => {}
                Post::Notify { channel, text } => {
                    for (to, listener) in all.get(channel).into_iter().flatten() {
                        let message = Message { pid, channel: channel.clone(), text: text.clone() };
                        if listener.try_send(message).is_err() {
                            tracing::warn!(pid = to, %channel, "a session takes no messages, one is lost");
                        }
                    }
                }
            }
        }
    }

    /// A session ends.
    pub(super) fn leave(&self, pid: i32) {
        self.carry_out(pid, &ear().0, &[Post::Unlisten(None)]);
    }

    /// What a session listens to.
    pub(crate) fn of(&self, pid: i32) -> Vec<String> {
        let mut names: Vec<String> =
            self.listeners().iter().filter(|(_, listeners)| listeners.contains_key(&pid)).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_who_listens_once() {
        let channels = Channels::default();
        let ((one, mut hears_one), (two, mut hears_two)) = (ear(), ear());
        channels.carry_out(1, &one, &[Post::Listen("news".to_owned())]);
        let message = Post::notify("news", "rain").expect("short");
        channels.carry_out(2, &two, &[message.clone(), message]);
        let heard = Message { pid: 2, channel: "news".to_owned(), text: "rain".to_owned() };
        assert_eq!(hears_one.try_recv(), Ok(heard));
        assert!(hears_one.try_recv().is_err() && hears_two.try_recv().is_err());
        assert_eq!(channels.of(1), ["news"]);
        channels.leave(1);
        assert_eq!(channels.of(1), [""; 0]);
    }

    #[test]
    fn what_no_message_can_be_is_refused() {
        for (channel, text) in [("", "x"), (&"c".repeat(64), "x"), ("c", &"x".repeat(8000))] {
            assert!(Post::notify(channel, text).is_err(), "{channel} {}", text.len());
        }
    }
}
